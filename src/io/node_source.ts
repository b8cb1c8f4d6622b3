/** @file Byte sources over Node's file system, for the command line and tests. The studio never imports this. */
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { FileError } from '../errors.ts'
import type { ByteSource, FileSet } from './source.ts'
import { checkRange } from './sources.ts'

const CODES: Readonly<Record<string, string>> = {
  ENOENT: 'There is no such file or folder',
  EACCES: 'Reading it is not permitted',
  EPERM: 'Reading it is not permitted',
  ENOTDIR: 'A part of this path is not a folder',
  EISDIR: 'This is a folder, not a file',
  EMFILE: 'Too many files are open',
}

function explain(e: unknown, path: string): FileError {
  if (e instanceof FileError) return e
  const code = e instanceof Error && 'code' in e ? String(e.code) : ''
  return new FileError(CODES[code] ?? `It could not be read (${e instanceof Error ? e.message : String(e)})`, {
    where: path,
    fix: 'Check the path',
  })
}

/** A file on disk. Opened for each read, so nothing has to be closed. @throws FileError naming the path. */
export async function fromPath(path: string): Promise<ByteSource> {
  const info = await stat(path).catch((e: unknown) => Promise.reject(explain(e, path)))
  if (!info.isFile())
    throw new FileError(info.isDirectory() ? 'This is a folder, not a file' : 'This is not a regular file', {
      where: path,
      fix: 'Check the path',
    })
  const size = info.size
  return {
    name: basename(path),
    size,
    read: async (offset, length) => {
      checkRange(path, size, offset, length)
      const bytes = new Uint8Array(length)
      try {
        const file = await open(path, 'r')
        try {
          for (let done = 0; done < length;) {
            const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 2 ** 30), offset + done)
            if (bytesRead === 0) checkRange(path, offset + done, offset, length)
            done += bytesRead
          }
        } finally {
          await file.close()
        }
      } catch (e) {
        throw explain(e, path)
      }
      return bytes
    },
  }
}

/** The files directly in a folder, by name. @throws FileError naming the path. */
export async function readFolder(path: string): Promise<FileSet> {
  const entries = await readdir(path, { withFileTypes: true }).catch((e: unknown) => Promise.reject(explain(e, path)))
  const files = new Map<string, ByteSource>()
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const full = join(path, entry.name)
    const info = entry.isSymbolicLink() ? await stat(full).catch(() => null) : entry
    if (info?.isFile()) files.set(entry.name, await fromPath(full))
  }
  return files
}

/** A folder's files, or the one file a path names. @throws FileError naming the path. */
export async function readPath(path: string): Promise<FileSet> {
  const info = await stat(path).catch((e: unknown) => Promise.reject(explain(e, path)))
  return info.isDirectory() ? readFolder(path) : new Map([[basename(path), await fromPath(path)]])
}
