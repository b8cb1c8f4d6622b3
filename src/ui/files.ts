/** @file Files a person gave: from a drop (folders too) or a picker, and kept in IndexedDB so that they are there after a reload.
 * The browser copies them into its own storage; where that is full they are used but not kept. */
import { del, get, set } from 'idb-keyval'

export type FileSlot = 'model-files' | 'data-files'

/** The same file, named by its path in the folder that was given. A name survives being kept and posted; webkitRelativePath does not. */
function placed(file: File, path: string): File {
  return path === file.name ? file : new File([file], path, { type: file.type, lastModified: file.lastModified })
}
const hidden = (path: string): boolean => (path.split('/').at(-1) ?? '').startsWith('.')

/** Files of an input, by their paths where a folder was picked. Hidden files are left out. */
export const inputFiles = (files: FileList | null): File[] =>
  [...(files ?? [])].map((f) => placed(f, f.webkitRelativePath || f.name)).filter((f) => !hidden(f.name))

/** All files of a drop, folders walked. Hidden files are left out. Call within the drop event: its items are gone afterwards. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((i) => i.webkitGetAsEntry()).filter((e) => e !== null)
  if (entries.length === 0) return [...transfer.files]
  return (await Promise.all(entries.map(walk))).flat().filter((f) => !hidden(f.name))
}

async function walk(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile)
    return [
      await new Promise<File>((resolve, reject) => {
        ;(entry as FileSystemFileEntry).file((f) => resolve(placed(f, entry.fullPath.replace(/^\//, ''))), reject)
      }),
    ]
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  const found: FileSystemEntry[] = []
  // readEntries gives at most 100 at a time and ends with an empty batch
  for (;;) {
    const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject)
    })
    if (batch.length === 0) break
    found.push(...batch)
  }
  return (await Promise.all(found.map(walk))).flat()
}

interface FolderPicker {
  showDirectoryPicker(): Promise<FileSystemDirectoryHandle>
}
const picker = (): FolderPicker | null => ('showDirectoryPicker' in window ? (window as unknown as FolderPicker) : null)
/** The browser has the File System Access picker. */
export const canPickFolder = (): boolean => picker() !== null

/** All files of a folder a person picks; none where they changed their mind. */
export async function pickFolder(): Promise<File[]> {
  try {
    const folder = await picker()?.showDirectoryPicker()
    return folder ? (await filesOf(folder, `${folder.name}/`)).filter((f) => !hidden(f.name)) : []
  } catch {
    return []
  }
}
async function filesOf(folder: FileSystemDirectoryHandle, path: string): Promise<File[]> {
  const found: File[] = []
  for await (const handle of folder.values()) {
    if (handle.kind === 'file') found.push(placed(await handle.getFile(), path + handle.name))
    else found.push(...(await filesOf(handle, `${path}${handle.name}/`)))
  }
  return found
}

/** Keep files across reloads. False where the browser has no room or no storage: they still work until the page is left. */
export async function keepFiles(slot: FileSlot, files: readonly File[]): Promise<boolean> {
  try {
    await set(slot, [...files])
    return true
  } catch {
    return false
  }
}

/** Files kept earlier, or null. Each is touched: a browser may have dropped what a stored File points to. */
export async function keptFiles(slot: FileSlot): Promise<File[] | null> {
  try {
    const files = await get<File[]>(slot)
    if (!files?.length) return null
    await Promise.all(files.map((f) => f.slice(0, 1).arrayBuffer()))
    return files
  } catch {
    return null
  }
}

export const forgetFiles = (slot: FileSlot): Promise<void> => del(slot).catch(() => undefined)

/** Shown name of a set of files: "a.gguf", "a.json and 2 more". */
export const nameOf = (names: readonly string[]): string => {
  const first = names[0] ?? 'no file'
  return names.length > 1 ? `${first} and ${names.length - 1} more` : first
}
