/** @file A table of any length: only the rows in view are in the page. Keyboard scrolls it, and screen readers hear its true size. */
import { useVirtualizer } from '@tanstack/react-virtual'
import { useRef, type ReactNode } from 'react'

interface Props {
  readonly label: string
  readonly columns: readonly string[]
  /** grid-template-columns of a row. */
  readonly template: string
  readonly rows: number
  /** Cells of row i, one per column. */
  readonly cells: (i: number) => readonly ReactNode[]
  readonly testId?: string
}

export function VirtualTable({ label, columns, template, rows, cells, testId }: Props) {
  const box = useRef<HTMLDivElement>(null)
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer is used within this component only
  const virtual = useVirtualizer({ count: rows, getScrollElement: () => box.current, estimateSize: () => 33, overscan: 12 })
  const items = virtual.getVirtualItems()
  return (
    <div ref={box} className="virtual" role="table" aria-label={label} aria-rowcount={rows + 1} data-testid={testId} tabIndex={0}>
      <div role="rowgroup">
        <div role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
          {columns.map((c) => (
            <span role="columnheader" key={c}>
              {c}
            </span>
          ))}
        </div>
      </div>
      <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: 'relative' }}>
        {items.map(({ index, key, start }) => (
          <div
            role="row"
            key={key}
            aria-rowindex={index + 2}
            data-index={index}
            ref={virtual.measureElement}
            style={{ gridTemplateColumns: template, position: 'absolute', insetInline: 0, top: 0, transform: `translateY(${start}px)` }}
          >
            {cells(index).map((cell, c) => (
              <span role="cell" key={columns[c]}>
                {cell}
              </span>
            ))}
          </div>
        ))}
      </div>
    </div>
  )
}
