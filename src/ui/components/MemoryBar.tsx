/** @file Planned GPU bytes by class: a bar for the eye and a table for the figures. */
import type { ReactNode } from 'react'
import type { RunMemory } from '../../worker/protocol.ts'
import { bytes } from '../format.ts'

/** In the order they are drawn. What each holds is said where there is room. */
export const MEMORY_CLASSES = [
  { key: 'weights', title: 'Weights', holds: 'The frozen model, as stored on the GPU' },
  { key: 'adapter', title: 'Adapter', holds: 'What is trained, and its gradient' },
  { key: 'optimizer', title: 'Optimizer', holds: 'Two moments for each trained value (AdamW)' },
  { key: 'activations', title: 'Activations', holds: 'Kept from the forward pass for the backward pass' },
  { key: 'head', title: 'Loss head', holds: 'Logits and their gradient, in chunks' },
  { key: 'samples', title: 'Samples', holds: 'Keys and values of the prompts that are watched' },
] as const

interface Props {
  readonly memory: RunMemory
  /** Say what each class holds. */
  readonly explain?: boolean
  /** Beside the table. */
  readonly children?: ReactNode
}

export function MemoryBar({ memory, explain = false, children }: Props) {
  const whole = Math.max(memory.total, 1)
  return (
    <div className="stack" style={{ gap: 10 }}>
      <div className="bar" role="img" aria-label={`Planned GPU memory: ${bytes(memory.total)}`}>
        {MEMORY_CLASSES.map(({ key }) =>
          memory[key] > 0 ? <i key={key} style={{ width: `${(100 * memory[key]) / whole}%`, background: `var(--mem-${key})` }} /> : null,
        )}
      </div>
      <div className={children === undefined ? undefined : 'two'} style={children === undefined ? undefined : { gap: 28 }}>
        <table className="legend" data-testid="memory">
          <caption className="unseen">Planned GPU memory by class</caption>
          <tbody>
            {MEMORY_CLASSES.map(({ key, title, holds }) => (
              <tr key={key}>
                <th scope="row">
                  <span className="swatch" style={{ background: `var(--mem-${key})` }} />
                  {title}
                </th>
                {explain && <td className="soft wide-only">{holds}</td>}
                <td>{bytes(memory[key])}</td>
              </tr>
            ))}
            <tr>
              <th scope="row">Total</th>
              {explain && <td className="wide-only" />}
              <td>{bytes(memory.total)}</td>
            </tr>
          </tbody>
        </table>
        {children}
      </div>
    </div>
  )
}
