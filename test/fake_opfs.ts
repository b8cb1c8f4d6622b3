/** @file An origin private file system in memory, with the ways the real one fails: no such file, locked, full. Only what the store uses. */

type Node = FakeFile | FakeFolder
const fail = (name: string): never => {
  throw new DOMException(name, name)
}

export interface FakeDisk {
  /** Bytes all files may have together. */
  quota: number
  readonly sync: boolean
  readonly move: boolean
}

class FakeFile {
  readonly kind = 'file'
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  locked = false
  createSyncAccessHandle?: () => Promise<object>
  move?: (folder: FakeFolder, name: string) => Promise<void>
  constructor(
    private readonly disk: FakeDisk,
    private readonly root: () => FakeFolder,
    public parent: FakeFolder,
    public name: string,
  ) {
    if (disk.sync) this.createSyncAccessHandle = () => this.openSync()
    if (disk.move)
      this.move = async (folder, to) => {
        if (this.locked || (folder.children.get(to) as FakeFile | undefined)?.locked) fail('NoModificationAllowedError')
        this.parent.children.delete(this.name)
        folder.children.set(to, this)
        this.parent = folder
        this.name = to
      }
  }
  async getFile(): Promise<File> {
    if (this.parent.children.get(this.name) !== this) fail('NotFoundError')
    return new File([this.bytes], this.name)
  }
  put(at: number, data: Uint8Array): void {
    const out = new Uint8Array(Math.max(this.bytes.length, at + data.length))
    if (this.root().size() - this.bytes.length + out.length > this.disk.quota) fail('QuotaExceededError')
    out.set(this.bytes)
    out.set(data, at)
    this.bytes = out
  }
  private async openSync(): Promise<object> {
    if (this.locked) fail('NoModificationAllowedError')
    this.locked = true
    return {
      write: (data: Uint8Array, { at }: { at: number }) => (this.put(at, data), data.length),
      getSize: () => this.bytes.length,
      truncate: (n: number) => (this.bytes = this.bytes.slice(0, n)),
      flush: () => undefined,
      close: () => (this.locked = false),
    }
  }
  async createWritable({ keepExistingData = false } = {}): Promise<object> {
    const swap = new FakeFile(this.disk, this.root, this.parent, this.name)
    if (keepExistingData) swap.bytes = this.bytes.slice()
    let at = 0
    return {
      seek: async (n: number) => (at = n),
      write: async (data: Uint8Array) => {
        swap.put(at, data)
        at += data.length
      },
      close: async () => (this.bytes = swap.bytes),
      abort: async () => undefined,
    }
  }
}

class FakeFolder {
  readonly kind = 'directory'
  readonly children = new Map<string, Node>()
  constructor(
    private readonly disk: FakeDisk,
    private readonly top?: FakeFolder,
  ) {}
  size(): number {
    return [...this.children.values()].reduce((n, c) => n + (c.kind === 'file' ? c.bytes.length : c.size()), 0)
  }
  async getDirectoryHandle(name: string, { create = false } = {}): Promise<FakeFolder> {
    const child = this.children.get(name) ?? (create ? new FakeFolder(this.disk, this.top ?? this) : fail('NotFoundError'))
    if (child.kind !== 'directory') return fail('TypeMismatchError')
    this.children.set(name, child)
    return child
  }
  async getFileHandle(name: string, { create = false } = {}): Promise<FakeFile> {
    const child = this.children.get(name) ?? (create ? new FakeFile(this.disk, () => this.top ?? this, this, name) : fail('NotFoundError'))
    if (child.kind !== 'file') return fail('TypeMismatchError')
    this.children.set(name, child)
    return child
  }
  async removeEntry(name: string): Promise<void> {
    const child = this.children.get(name) ?? fail('NotFoundError')
    if (child.kind === 'file' && child.locked) fail('NoModificationAllowedError')
    this.children.delete(name)
  }
  async *entries(): AsyncGenerator<[string, Node], void> {
    yield* [...this.children]
  }
}

export const fakeOpfs = (disk: FakeDisk): FileSystemDirectoryHandle => new FakeFolder(disk) as unknown as FileSystemDirectoryHandle
