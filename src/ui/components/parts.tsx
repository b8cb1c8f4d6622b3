/** @file Small pieces every screen is made of: page head, card, tag, facts. No state of their own. */
import { Button } from '@mantine/core'
import { ChevronDown, ChevronRight } from 'lucide-react'
import type { ReactNode } from 'react'

/** Title of a screen, one sentence on it, its actions with the primary one last. The title takes the focus when the step changes. */
export function PageHead({ title, children, actions }: { title: string; children: ReactNode; actions?: ReactNode }) {
  return (
    <div className="head">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        <p>{children}</p>
      </div>
      {actions !== undefined && <div className="row">{actions}</div>}
    </div>
  )
}

interface CardProps {
  readonly title?: ReactNode
  /** Right of the title. */
  readonly aside?: ReactNode
  readonly selected?: boolean
  readonly className?: string
  readonly children: ReactNode
}
export function Card({ title, aside, selected, className = '', children }: CardProps) {
  return (
    <section className={`card ${className}`} data-selected={selected ? '' : undefined}>
      {title !== undefined && (
        <header>
          <h2>{title}</h2>
          <span className="grow" />
          {aside}
        </header>
      )}
      {children}
    </section>
  )
}

export type Tone = 'plain' | 'good' | 'bad' | 'warn' | 'accent'
export const Tag = ({ tone = 'plain', children }: { tone?: Tone; children: ReactNode }) => (
  <span className="tag" data-tone={tone}>
    {children}
  </span>
)

/** Names and values; entries whose value is null are left out. `wide`: value under name, in columns. */
export function Facts({ entries, wide }: { entries: readonly (readonly [string, ReactNode])[]; wide?: boolean }) {
  const shown = entries.filter(([, v]) => v !== null && v !== undefined)
  return (
    <dl className="facts" data-wide={wide ? '' : undefined}>
      {wide
        ? shown.map(([k, v]) => (
            <div key={k}>
              <dt>{k}</dt>
              <dd>{v}</dd>
            </div>
          ))
        : shown.flatMap(([k, v]) => [<dt key={`${k}-name`}>{k}</dt>, <dd key={k}>{v}</dd>])}
    </dl>
  )
}

interface DisclosureProps {
  readonly open: boolean
  readonly onToggle: () => void
  readonly children: ReactNode
  /** Id of what it shows. */
  readonly controls?: string
  readonly testId?: string
}
/** A quiet button that shows and hides what follows it. */
export const Disclosure = ({ open, onToggle, children, controls, testId }: DisclosureProps) => (
  <Button
    variant="subtle"
    color="gray"
    size="compact-sm"
    ml={-8}
    aria-expanded={open}
    aria-controls={controls}
    leftSection={open ? <ChevronDown size={14} aria-hidden /> : <ChevronRight size={14} aria-hidden />}
    data-testid={testId}
    onClick={onToggle}
  >
    {children}
  </Button>
)
