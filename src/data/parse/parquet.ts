/** @file Parquet through hyparquet, a row group (or a part of a large one) at a time; loaded only when such a file is met. */
import type { AsyncBuffer, FileMetaData, SchemaTree } from 'hyparquet'
import { DataError } from '../../errors.ts'
import type { ByteSource } from '../../io/source.ts'
import type { ParsedRow, RowOptions } from './row.ts'

/** Uncompressed bytes decoded at once, about. */
const GROUP_BYTES = 64 * 2 ** 20
/** More rows than this in a group is taken for damage. */
const MAX_GROUP_ROWS = 2 ** 28

const bufferOf = (source: ByteSource): AsyncBuffer => ({
  byteLength: source.size,
  slice: (start, end = source.size) => {
    const from = start < 0 ? source.size + start : start
    const read = source.read(from, end - from).then((b) => b.buffer)
    // Of several columns read at once only the first failure is waited for.
    read.catch(() => undefined)
    return read
  },
})

const damaged = (source: ByteSource, e: unknown): DataError =>
  new DataError(`the Parquet file cannot be read (${e instanceof Error ? e.message : String(e)})`, {
    where: source.name,
    why: 'It is truncated or damaged, or uses a feature that is not supported',
    fix: 'Write it again, or convert it to JSONL',
  })

const leaves = (node: SchemaTree): string[] => (node.children.length ? node.children.flatMap(leaves) : [node.path.join('.')])

/** Throws unless every row group has the schema's columns, each once, as the format demands: the library counts on it. */
function checkColumns(schema: SchemaTree, { row_groups }: FileMetaData): void {
  const expected = leaves(schema)
  const names = schema.children.map((c) => c.element.name)
  if (new Set(names).size !== names.length) throw new Error('two columns have the same name')
  for (const [g, { columns, num_rows }] of row_groups.entries()) {
    if (num_rows < 0n || num_rows > MAX_GROUP_ROWS) throw new Error(`row group ${g + 1} claims ${num_rows} rows`)
    const paths = columns.map((c) => c.meta_data?.path_in_schema.join('.') ?? '')
    if (paths.length !== expected.length || paths.some((p, i) => p !== expected[i]))
      throw new Error(`row group ${g + 1} does not have the columns of the schema`)
  }
}

/** Footer of a file. Throws DataError where there is none worth the name. */
async function footer(source: ByteSource, file: AsyncBuffer): Promise<FileMetaData> {
  const { parquetMetadataAsync, parquetSchema } = await import('hyparquet')
  try {
    if (source.size < 12) throw new Error('it is too short')
    const tail = await source.read(source.size - 8, 8)
    const length = new DataView(tail.buffer).getUint32(0, true)
    if (new TextDecoder().decode(tail.subarray(4)) !== 'PAR1') throw new Error('it does not end as Parquet files do: it is truncated')
    if (length > source.size - 12) throw new Error(`its footer claims ${length} bytes`)
    const metadata = await parquetMetadataAsync(file, { geoparquet: false })
    checkColumns(parquetSchema(metadata), metadata)
    return metadata
  } catch (e) {
    throw damaged(source, e)
  }
}

/** Rows in batches; `line` is the row's number. A row group that cannot be read is set aside as a whole, and reading goes on with the next. */
export async function* readParquet(source: ByteSource, options: RowOptions = {}): AsyncGenerator<ParsedRow[]> {
  const { signal, onBytes } = options
  const [{ parquetReadObjects }, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')])
  const file = bufferOf(source)
  const metadata = await footer(source, file)
  const total = metadata.row_groups.reduce((n, g) => n + Number(g.num_rows), 0)
  const known = new Set(metadata.row_groups[0]?.columns.map((c) => c.meta_data?.path_in_schema[0] ?? ''))
  const columns = options.columns?.filter((c) => known.has(c))
  let start = 0
  for (const [g, group] of metadata.row_groups.entries()) {
    const rows = Number(group.num_rows)
    const step = Math.max(1, Math.ceil(rows / Math.max(1, Math.ceil(Number(group.total_byte_size) / GROUP_BYTES))))
    const end = start + rows
    for (let from = start; from < end; from += step) {
      signal?.throwIfAborted()
      const to = Math.min(end, from + step)
      try {
        const objects = await parquetReadObjects({
          file,
          metadata,
          rowStart: from,
          rowEnd: to,
          compressors,
          useOffsetIndex: step < rows,
          geoparquet: false,
          ...(columns?.length && { columns }),
        })
        if (objects.length !== to - from) throw new Error(`it holds ${objects.length} rows, and the footer says ${to - from}`)
        yield objects.map((row, i) => ({ line: from + i + 1, row }))
      } catch (e) {
        const why = e instanceof Error ? e.message : String(e)
        yield [
          { line: from + 1, bad: `row group ${g + 1} (rows ${from + 1} to ${to}) cannot be read: ${why}`, excerpt: '', count: to - from },
        ]
      }
      onBytes?.(total ? Math.floor((source.size * to) / total) : source.size)
    }
    start = end
  }
}
