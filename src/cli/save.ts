/** @file Writes an export's files into a folder. */
import { createWriteStream } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { FileError } from '../errors.ts'
import { streamSafetensors } from '../io/safetensors_writer.ts'
import type { ExportItem } from '../train/export.ts'

const refused = (path: string, e: unknown): FileError =>
  new FileError(`it could not be written (${e instanceof Error ? e.message : String(e)})`, {
    where: path,
    why: 'the result would be lost',
    fix: 'Name a folder for --out that may be written, on a disk with room',
  })

/** Make the folder, or see that it is there. Throws FileError naming it. */
export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((e: unknown) => Promise.reject(refused(path, e)))
}

/** Write files into a folder; each appears under its name only when it is whole. Throws FileError naming the file. */
export async function saveFiles(folder: string, items: readonly ExportItem[]): Promise<void> {
  for (const item of items) {
    const path = join(folder, item.name)
    const partial = `${path}.partial`
    try {
      if ('tensors' in item) await pipeline(Readable.from(streamSafetensors(item.tensors)), createWriteStream(partial))
      else await writeFile(partial, item.data)
      await rename(partial, path)
    } catch (e) {
      throw refused(path, e)
    }
  }
}
