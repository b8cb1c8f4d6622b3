/**
 * @file The file store in the browser: the origin private file system. In workers it writes through sync access handles, elsewhere through writable streams. A file
 * is written under a temporary name and then moved over the old one, so a crash leaves one of the two whole.
 */
import { EtudeError, FileError } from '../errors.ts'
import { checkKey, noSuchFile, outOfSpace, pieces, TEMPORARY, type BlobData, type BlobInfo, type BlobStore } from './blob_store.ts'
import { fromBlob } from './sources.ts'

/** What file handles have beyond TypeScript's DOM types. */
interface SyncAccessHandle {
  write(data: Uint8Array<ArrayBuffer>, options: { at: number }): number
  getSize(): number
  truncate(size: number): void
  flush(): void
  close(): void
}
type FileHandle = FileSystemFileHandle & {
  createSyncAccessHandle?: () => Promise<SyncAccessHandle>
  move?: (folder: FileSystemDirectoryHandle, name: string) => Promise<void>
}

const nameOf = (e: unknown): string => (e instanceof Error || e instanceof DOMException ? e.name : '')

function explain(e: unknown, key: string): unknown {
  if (e instanceof EtudeError) return e
  const name = nameOf(e)
  if (name === 'QuotaExceededError') return outOfSpace(key)
  if (name === 'NotFoundError') return noSuchFile(key)
  if (name === 'NoModificationAllowedError' || name === 'InvalidStateError') {
    return new FileError('The stored file is in use', {
      where: key,
      why: 'Another tab of the studio is writing it',
      fix: 'Close the other tab, or wait until it is done',
    })
  }
  if (name === 'AbortError') return e
  return new FileError(`The browser could not store or read it (${e instanceof Error ? e.message : String(e)})`, {
    where: key,
    fix: 'Reload the page; private windows may forbid storage',
  })
}

/** Writes pieces at `at` (or at the end) and makes them durable. What was beyond is cut where `at` is 0. */
async function writePieces(handle: FileHandle, data: BlobData, append: boolean): Promise<void> {
  if (handle.createSyncAccessHandle) {
    const file = await handle.createSyncAccessHandle()
    try {
      let at = append ? file.getSize() : 0
      if (!append) file.truncate(0)
      for await (const piece of pieces(data)) {
        for (let done = 0; done < piece.length;) {
          const n = file.write(piece.subarray(done), { at: at + done })
          if (n <= 0) throw new DOMException('', 'QuotaExceededError')
          done += n
        }
        at += piece.length
      }
      file.flush()
    } finally {
      file.close()
    }
    return
  }
  const start = append ? (await handle.getFile()).size : 0
  const stream = await handle.createWritable({ keepExistingData: append })
  try {
    if (append) await stream.seek(start)
    for await (const piece of pieces(data)) await stream.write(piece)
  } catch (e) {
    await stream.abort().catch(() => undefined)
    throw e
  }
  await stream.close()
}

/** A store in a folder of the origin private file system. */
export function opfsStore(root: FileSystemDirectoryHandle): BlobStore {
  const folder = async (names: readonly string[], create: boolean): Promise<FileSystemDirectoryHandle> => {
    let dir = root
    for (const name of names.slice(0, -1)) dir = await dir.getDirectoryHandle(name, { create })
    return dir
  }
  const handle = async (key: string): Promise<FileHandle | null> => {
    const names = checkKey(key)
    try {
      return await (await folder(names, false)).getFileHandle(names.at(-1) ?? '')
    } catch (e) {
      if (nameOf(e) === 'NotFoundError' || nameOf(e) === 'TypeMismatchError') return null
      throw e
    }
  }
  const rename = async (file: FileHandle, to: string): Promise<void> => {
    const names = checkKey(to)
    const dir = await folder(names, true)
    const name = names.at(-1) ?? ''
    if (file.move) return file.move(dir, name)
    // Without `move`, a writable stream replaces the target whole when it is closed.
    const target: FileHandle = await dir.getFileHandle(name, { create: true })
    const stream = await target.createWritable()
    for await (const piece of pieces(await file.getFile())) await stream.write(piece)
    await stream.close()
  }
  const guard = async <T>(key: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await run()
    } catch (e) {
      throw explain(e, key)
    }
  }
  const remove = async (names: readonly string[]): Promise<void> => {
    try {
      await (await folder(names, false)).removeEntry(names.at(-1) ?? '')
    } catch (e) {
      if (nameOf(e) !== 'NotFoundError') throw e
    }
  }
  async function* walk(dir: FileSystemDirectoryHandle, path: string, prefix: string): AsyncGenerator<BlobInfo, void> {
    for await (const [name, entry] of dir.entries()) {
      const key = path + name
      if (entry.kind === 'directory') {
        if (`${key}/`.startsWith(prefix) || prefix.startsWith(`${key}/`)) yield* walk(entry, `${key}/`, prefix)
      } else if (key.startsWith(prefix) && !name.includes(TEMPORARY)) {
        yield { key, size: (await entry.getFile()).size }
      }
    }
  }

  return {
    list: (prefix) =>
      guard(prefix, async () => {
        const out: BlobInfo[] = []
        for await (const info of walk(root, '', prefix)) out.push(info)
        return out.sort((a, b) => (a.key < b.key ? -1 : 1))
      }),
    read: (key) =>
      guard(key, async () => {
        const file = await handle(key)
        return file ? fromBlob(await file.getFile(), key) : null
      }),
    write: (key, data) =>
      guard(key, async () => {
        const names = checkKey(key)
        const dir = await folder(names, true)
        const temporary = `${names.at(-1) ?? ''}${TEMPORARY}${crypto.randomUUID()}`
        try {
          const file = await dir.getFileHandle(temporary, { create: true })
          await writePieces(file, data, false)
          await rename(file, key)
        } finally {
          await remove([...names.slice(0, -1), temporary])
        }
      }),
    append: (key, bytes) =>
      guard(key, async () => {
        const names = checkKey(key)
        await writePieces(await (await folder(names, true)).getFileHandle(names.at(-1) ?? '', { create: true }), bytes, true)
      }),
    move: (from, to) =>
      guard(from, async () => {
        const file = await handle(from)
        if (!file) throw noSuchFile(from)
        await rename(file, to)
        if (!file.move) await remove(checkKey(from))
      }),
    remove: (key) => guard(key, () => remove(checkKey(key))),
    available: async () => {
      const { quota, usage } = await navigator.storage.estimate()
      return quota === undefined ? null : Math.max(0, quota - (usage ?? 0))
    },
  }
}

/** Removes what writes left behind that a crash cut off. Call once, before anything is written. */
export async function removeTemporaries(dir: FileSystemDirectoryHandle): Promise<void> {
  for await (const [name, entry] of dir.entries()) {
    if (entry.kind === 'directory') await removeTemporaries(entry)
    else if (name.includes(TEMPORARY)) await dir.removeEntry(name).catch(() => undefined)
  }
}

/**
 * The store of this origin, in a folder of its own. Temporary files stay while another tab writes them: their lock keeps them.
 * @throws FileError where the browser has no private file system or forbids it.
 */
export async function openOpfs(name = 'etude'): Promise<BlobStore> {
  try {
    const root = await navigator.storage.getDirectory()
    const dir = await root.getDirectoryHandle(name, { create: true })
    await removeTemporaries(dir)
    return opfsStore(dir)
  } catch (e) {
    throw new FileError(`This browser offers no file storage (${e instanceof Error ? e.message : String(e)})`, {
      why: 'Downloads, runs and checkpoints could not be kept over a reload',
      fix: 'Use a normal window (not a private one) of a current Chrome or Edge',
    })
  }
}
