/**
 * @file Downloads a model from the Hugging Face hub into the file store: pinned to a commit, with progress, cancel and resume. It asks one origin only; the token, if
 * any, goes to that origin in the Authorization header and is stored nowhere. What was downloaded is found again without a network.
 */
import { FileError } from '../errors.ts'
import { keyPart, type BlobStore } from './blob_store.ts'
import { client, Interrupted, withRetries, type Client, type HubOptions } from './hub_client.ts'
import { parseHubId, parseListing, pickFiles, type HubFile, type HubId } from './hub_files.ts'
import { isObject, parseJson, readJson } from './json.ts'
import type { ByteSource, FileSet } from './source.ts'

/** Received bytes are stored in pieces of this size: what a crash can lose. */
const PIECE = 8 * 2 ** 20
/** Ends the key of a file that is not there whole yet. */
const PART = '.part'
const LISTING_LIMIT = 64 * 2 ** 20

export interface HubModel {
  readonly repo: string
  /** The commit the files are of, 40 hex digits. */
  readonly commit: string
  readonly files: FileSet
}
/** What is stored of a repository. */
export interface Download {
  readonly repo: string
  readonly bytes: number
  /** Nothing of it is missing. */
  readonly complete: boolean
}
interface Manifest {
  readonly commit: string
  readonly files: readonly HubFile[]
}

const folderKey = (repo: string): string => `hub/${repo.split('/').map(keyPart).join('/')}`
const manifestKey = ({ repo, revision, pick }: HubId): string => `${folderKey(repo)}/manifests/${keyPart(`${revision}:${pick ?? ''}`)}.json`
const fileKey = (repo: string, commit: string, name: string): string => `${folderKey(repo)}/${commit}/${keyPart(name)}`

/** Reads a body into pieces of PIECE bytes. A cut connection gives what came and then throws Interrupted. */
async function* collect(response: Response, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  if (!response.body) return
  const reader = response.body.getReader()
  let piece = new Uint8Array(PIECE)
  let used = 0
  try {
    for (;;) {
      let broken: unknown = null
      const { done, value } = await reader.read().catch((e: unknown) => ((broken = e), { done: true as const, value: undefined }))
      for (let at = 0; value && at < value.length;) {
        const n = Math.min(value.length - at, PIECE - used)
        piece.set(value.subarray(at, at + n), used)
        at += n
        used += n
        if (used < PIECE) continue
        yield piece
        piece = new Uint8Array(PIECE)
        used = 0
      }
      if (!done) continue
      if (used) yield piece.slice(0, used)
      if (broken === null) return
      signal?.throwIfAborted()
      throw new Interrupted(broken instanceof Error ? broken.message : 'connection lost')
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

/** Where an answer to a range request begins; null where that is not what was asked for. */
function rangeStart(response: Response, have: number, size: number): number | null {
  if (response.status === 200) return 0
  if (response.status !== 206) return null
  const header = response.headers.get('content-range')
  if (header === null) return have
  const [, from, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(header) ?? []
  return Number(from) === have && (total === '*' || Number(total) === size) ? have : null
}

/** Downloads one file into `key`, going on from what is stored under `key` and PART. */
async function download(
  get: Client,
  repo: string,
  commit: string,
  file: HubFile,
  key: string,
  options: HubOptions,
  tick: (bytes: number) => void,
): Promise<void> {
  const { store, signal } = options
  const where = `${repo}, ${file.name}`
  const part = `${key}${PART}`
  let have = (await store.read(part))?.size ?? 0
  if (have > file.size) {
    await store.remove(part)
    have = 0
  }
  tick(have)
  if (have < file.size || file.size === 0) {
    const response = await get(
      `${repo}/resolve/${commit}/${encodeURIComponent(file.name)}`,
      file.name,
      have ? { Range: `bytes=${have}-` } : {},
    )
    const start = rangeStart(response, have, file.size)
    if (start !== have) {
      await store.remove(part)
      have = 0
    }
    if (start === null) {
      await response.body?.cancel().catch(() => undefined)
      throw new Interrupted('the server sent another part than was asked for')
    }
    if (have === 0) await store.write(part, new Uint8Array(0))
    for await (const piece of collect(response, signal)) {
      if (have + piece.length > file.size) {
        await store.remove(part)
        throw new FileError(`More than the ${file.size} bytes came that the hub announced`, {
          where,
          why: 'The file is changed on its way, or the hub is wrong',
          fix: 'Try again later',
        })
      }
      await store.append(part, piece)
      have += piece.length
      tick(have)
    }
    signal?.throwIfAborted()
    if (have < file.size) throw new Interrupted(`the connection ended after ${have} of ${file.size} bytes`)
  }
  await store.move(part, key)
}

async function stored(store: BlobStore, repo: string, manifest: Manifest): Promise<FileSet | null> {
  const files = new Map<string, ByteSource>()
  for (const f of manifest.files) {
    const source = await store.read(fileKey(repo, manifest.commit, f.name))
    if (source?.size !== f.size) return null
    files.set(f.name, { ...source, name: f.name })
  }
  return files
}

async function readManifest(store: BlobStore, id: HubId): Promise<Manifest | null> {
  const source = await store.read(manifestKey(id))
  if (!source) return null
  try {
    const value = await readJson(source)
    if (!isObject(value) || typeof value.commit !== 'string' || !Array.isArray(value.files)) return null
    const listing = {
      sha: value.commit,
      siblings: (value.files as unknown[]).map((f) => (isObject(f) ? { rfilename: f.name, size: f.size } : null)),
    }
    return parseListing(listing, id.repo)
  } catch {
    return null
  }
}

/** Which commit a revision is, and its files. Without a network: as it was when it was downloaded. */
async function resolve(get: Client, id: HubId, options: HubOptions): Promise<Manifest> {
  const known = await readManifest(options.store, id)
  if (known && known.commit === id.revision && (await stored(options.store, id.repo, known))) return known
  try {
    return await withRetries(id.repo, known ? { ...options, retries: 0 } : options, async () => {
      const response = await get(`api/models/${id.repo}/revision/${encodeURIComponent(id.revision)}?blobs=true`, 'list of files')
      const text = await response.text().catch((e: unknown) => Promise.reject(new Interrupted(String(e))))
      if (text.length > LISTING_LIMIT) throw new FileError('Its list of files is too long', { where: id.repo })
      const { commit, files } = parseListing(parseJson(text, `${id.repo}, list of files`), id.repo)
      return { commit, files: pickFiles(files, id) }
    })
  } catch (e) {
    options.signal?.throwIfAborted()
    if (known && e instanceof FileError && e.what.startsWith('The connection failed') && (await stored(options.store, id.repo, known)))
      return known
    throw e
  }
}

/**
 * A model of the hub, from the store where it is there already.
 * @param name as `parseHubId` takes it.
 * @throws FileError for names that are none, refusals, lost connections and full disks; the signal's reason when aborted. What was downloaded stays for next time.
 */
export async function fetchModel(name: string, options: HubOptions): Promise<HubModel> {
  const id = parseHubId(name)
  const get = client(id.repo, options)
  const manifest = await resolve(get, id, options)
  const { commit, files } = manifest
  const total = files.reduce((n, f) => n + f.size, 0)
  const done = new Map<string, number>()
  for (const f of files) if ((await options.store.read(fileKey(id.repo, commit, f.name)))?.size === f.size) done.set(f.name, f.size)
  const missing = files.filter((f) => !done.has(f.name))
  const needed = missing.reduce((n, f) => n + f.size, 0)
  const room = await options.store.available()
  if (room !== null && needed > room) {
    throw new FileError(
      `It takes ${Math.ceil(needed / 2 ** 20)} MiB, but the browser lets this page store ${Math.floor(room / 2 ** 20)} MiB more`,
      { where: id.repo, fix: 'Delete old runs or downloaded models in the studio, or free space on the disk' },
    )
  }
  for (const file of missing) {
    const tick = (bytes: number): void => {
      done.set(file.name, bytes)
      options.onProgress?.({ file: file.name, done: [...done.values()].reduce((a, b) => a + b, 0), total })
    }
    await withRetries(`${id.repo}, ${file.name}`, options, () =>
      download(get, id.repo, commit, file, fileKey(id.repo, commit, file.name), options, tick),
    )
  }
  await options.store.write(manifestKey(id), new TextEncoder().encode(JSON.stringify(manifest)))
  const set = await stored(options.store, id.repo, manifest)
  if (!set)
    throw new FileError('Some of its files are not there after the download', {
      where: id.repo,
      why: 'They were deleted meanwhile, perhaps in another tab',
      fix: 'Try again',
    })
  return { repo: id.repo, commit, files: set }
}

/** Downloads by repository, unfinished ones too: those have a part of a file, or no list of what belongs to them yet. */
export async function downloadedModels(store: BlobStore): Promise<Download[]> {
  const found = new Map<string, { bytes: number; listed: boolean; parts: boolean }>()
  for (const { key, size } of await store.list('hub/')) {
    const [, repo, folder] = /^hub\/(.+)\/([0-9a-f]{40}|manifests)\/[^/]*$/.exec(key) ?? []
    if (!repo) continue
    const f = found.get(repo) ?? { bytes: 0, listed: false, parts: false }
    found.set(repo, { bytes: f.bytes + size, listed: f.listed || folder === 'manifests', parts: f.parts || key.endsWith(PART) })
  }
  return [...found].map(([repo, { bytes, listed, parts }]) => ({ repo, bytes, complete: listed && !parts }))
}

/** Deletes the files of a repository, unfinished ones too. */
export async function removeDownload(store: BlobStore, repo: string): Promise<void> {
  const { repo: checked } = parseHubId(repo)
  const folder = `${folderKey(checked)}/`
  // "name" is a folder of the repositories of an owner called so, too.
  for (const { key } of await store.list(folder)) if (/^([0-9a-f]{40}|manifests)\//.test(key.slice(folder.length))) await store.remove(key)
}
