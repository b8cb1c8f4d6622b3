/** @file Finding files by name in what a person dropped, whatever folder it came in. */
import { FileError } from '../errors.ts'
import type { ByteSource, FileSet } from './source.ts'

/** Last part of a path ("a/b.txt" → "b.txt"); both kinds of slash count. */
export const baseName = (path: string): string => path.split(/[/\\]/).at(-1) ?? path
const folderOf = (path: string): string => path.slice(0, path.length - baseName(path).length)
const depth = (path: string): number => path.split(/[/\\]/).length

/**
 * The files beside the shallowest file called `marker`, by base name; null where there is no such file.
 * @throws FileError where two folders at the same depth have one: it is not clear which was meant.
 */
export function besideFile(files: FileSet, marker: string): FileSet | null {
  const paths = [...files.keys()].filter((p) => baseName(p) === marker).sort((a, b) => depth(a) - depth(b))
  const [first, second] = paths
  if (first === undefined) return null
  if (second !== undefined && depth(first) === depth(second)) {
    throw new FileError(`${marker} is there twice: ${first} and ${second}`, {
      why: 'It is not clear which one is meant',
      fix: 'Choose one folder',
    })
  }
  return inFolder(files, folderOf(first))
}

/** Files directly in a folder ("" or ending with a slash), by base name. */
function inFolder(files: FileSet, folder: string): FileSet {
  const out = new Map<string, ByteSource>()
  for (const [path, source] of files) if (folderOf(path) === folder) out.set(baseName(path), source)
  return out
}

/** Paths whose name ends so, shallowest first, then by name. */
export const withExtension = (files: FileSet, extension: string): string[] =>
  [...files.keys()].filter((p) => p.toLowerCase().endsWith(extension)).sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1))
