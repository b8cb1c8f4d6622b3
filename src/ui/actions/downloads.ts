/** @file Models of the hub that this browser keeps: what they take, and deleting one. */
import { engine } from '../services.ts'
import { dispatch } from '../store/store.ts'
import { wireOf } from '../wire.ts'

export async function listDownloads(): Promise<void> {
  try {
    dispatch({ type: 'downloads', patch: { list: await engine().request('list-downloads', {}), error: null } })
  } catch (e) {
    dispatch({ type: 'downloads', patch: { error: wireOf(e) } })
  }
}

export async function deleteDownload(repo: string): Promise<void> {
  dispatch({ type: 'downloads', patch: { deleting: repo, error: null } })
  try {
    await engine().request('delete-download', { repo })
    await listDownloads()
  } catch (e) {
    dispatch({ type: 'downloads', patch: { error: wireOf(e) } })
  } finally {
    dispatch({ type: 'downloads', patch: { deleting: null } })
  }
}
