/** @file Models of the hub that are kept: deleting one, unless it is in use. */
import { ModelError } from '../../errors.ts'
import { removeDownload } from '../../io/hub.ts'
import type { Shared } from './shared.ts'

/** Delete what is stored of a repository. Throws ModelError where the model that is loaded is read from there. */
export async function deleteDownload(s: Shared, repo: string): Promise<void> {
  if (s.model?.repo === repo)
    throw new ModelError('this download is in use', {
      where: repo,
      why: 'The weights of the model that is loaded are read from it',
      fix: 'Load another model first',
    })
  await removeDownload(s.deps.store, repo)
}
