/** @file Parquet through hyparquet, a row group (or a part of a large one) at a time; loaded only when such a file is met. */
import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { DataError } from '../../errors.ts'
import type { ByteSource } from '../../io/source.ts'
import type { ParsedRow, RowOptions } from './row.ts'

/** Uncompressed bytes decoded at once, about. */
const GROUP_BYTES = 64 * 2 ** 20
/** More rows than this in a group is taken for damage. */
const MAX_GROUP_ROWS = 2 ** 28

const bufferOf = (source: ByteSource): AsyncBuffer => ({
  byteLength: source.size,
  slice: async (start, end = source.size) => {
    const from = start < 0 ? source.size + start : start
    return (await source.read(from, end - from)).buffer
  },
})

const damaged = (source: ByteSource, e: unknown): DataError =>
  new DataError(`the Parquet file cannot be read (${e instanceof Error ? e.message : String(e)})`, {
    where: source.name,
    why: 'It is truncated or damaged, or uses a feature that is not supported',
    fix: 'Write it again, or convert it to JSONL',
  })

/** Footer of a file. Throws DataError where there is none worth the name. */
async function footer(source: ByteSource, file: AsyncBuffer): Promise<FileMetaData> {
  const { parquetMetadataAsync } = await import('hyparquet')
  try {
    if (source.size < 12) throw new Error('it is too short')
    const tail = await source.read(source.size - 8, 8)
    const length = new DataView(tail.buffer).getUint32(0, true)
    if (new TextDecoder().decode(tail.subarray(4)) !== 'PAR1') throw new Error('it does not end as Parquet files do: it is truncated')
    if (length > source.size - 12) throw new Error(`its footer claims ${length} bytes`)
    const metadata = await parquetMetadataAsync(file, { geoparquet: false })
    for (const group of metadata.row_groups)
      if (group.num_rows < 0n || group.num_rows > MAX_GROUP_ROWS) throw new Error(`a row group claims ${group.num_rows} rows`)
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
