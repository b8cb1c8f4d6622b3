/** @file A form rendered from declared options. A text that cannot be used is said so at its field and told to `onInvalid`; the last good value stays. */
import { Collapse, Select, Switch, TagsInput, TextInput } from '@mantine/core'
import { useEffect, useEffectEvent, useId, useState } from 'react'
import { accepts, parseOptions, parseText, type Option, type Options } from '../../options.ts'
import { toWire } from '../../errors.ts'
import { Disclosure } from './parts.tsx'

interface Props {
  readonly options: Options
  readonly values: Readonly<Record<string, unknown>>
  /** Names to be marked as changed from their default. */
  readonly changed: ReadonlySet<string>
  /** What `data-testid` starts with: "option" or "run". */
  readonly prefix: string
  readonly onChange: (name: string, value: unknown) => void
  readonly onInvalid: (name: string, why: string | null) => void
  /** Suggestions of names options that are only known here, such as the model's linear layers. */
  readonly suggestions?: readonly string[]
}

export function OptionsForm({ options, values, ...rest }: Props) {
  const [open, setOpen] = useState(false)
  const id = useId()
  const shown = Object.entries(options).filter(([, o]) => o.when?.(values) ?? true)
  const plain = shown.filter(([, o]) => !o.advanced)
  const advanced = shown.filter(([, o]) => o.advanced)
  const changedInside = advanced.filter(([name]) => rest.changed.has(name)).length
  const fields = (list: typeof shown) => (
    <div className="form">
      {list.map(([name, option]) => (
        <OptionField key={name} name={name} option={option} value={values[name]} {...rest} />
      ))}
    </div>
  )
  return (
    <div className="stack">
      {fields(plain)}
      {advanced.length > 0 && (
        <div>
          <Disclosure
            open={open}
            onToggle={() => {
              setOpen(!open)
            }}
            controls={id}
            testId={`${rest.prefix}-more`}
          >
            More options{changedInside > 0 ? ` (${changedInside} changed)` : ''}
          </Disclosure>
          <Collapse expanded={open} id={id}>
            <div style={{ paddingTop: 12 }}>{fields(advanced)}</div>
          </Collapse>
        </div>
      )}
    </div>
  )
}

interface FieldProps extends Omit<Props, 'options' | 'values'> {
  readonly name: string
  readonly option: Option
  readonly value: unknown
}

export function OptionField({ name, option: o, value, changed, prefix, onChange, onInvalid, suggestions = [] }: FieldProps) {
  const className = changed.has(name) ? 'field-changed' : undefined
  const common = {
    label: o.label,
    description: o.help,
    className,
    'data-testid': `${prefix}-${name}`,
    inputWrapperOrder: ['label', 'input', 'error', 'description'] as ('label' | 'input' | 'error' | 'description')[],
  }
  switch (o.kind) {
    case 'bool':
      return (
        <Switch
          label={o.label}
          description={o.help}
          className={className}
          data-testid={`${prefix}-${name}`}
          checked={value === true}
          onChange={(e) => {
            onChange(name, e.currentTarget.checked)
          }}
        />
      )
    case 'choice':
      return (
        <Select
          {...common}
          data={[...o.choices]}
          value={String(value)}
          onChange={(v) => {
            if (v !== null) onChange(name, v)
          }}
        />
      )
    case 'names':
      return (
        <TagsInput
          {...common}
          data={[...new Set([...o.suggestions, ...suggestions])]}
          value={value as string[]}
          error={(value as string[]).length === 0 ? `expected ${accepts(o)}` : undefined}
          onChange={(v) => {
            onChange(name, v)
            onInvalid(name, v.length === 0 ? `expected ${accepts(o)}` : null)
          }}
        />
      )
    case 'int':
    case 'float':
      return <NumberField {...common} name={name} option={o} value={value as number} onChange={onChange} onInvalid={onInvalid} />
  }
}

/** Why a text is no value of this option; null if it is one. */
export function whyNot(name: string, option: Option, text: string): string | null {
  try {
    parseOptions({ [name]: option }, { [name]: parseText(name, option, text) })
    return null
  } catch (e) {
    return toWire(e).what
  }
}

/** Numbers as people write them: 1e-3 as well as 0.001. */
export const written = (v: number): string =>
  v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e7) ? v.toExponential().replace('e+', 'e') : String(v)

type NumberProps = Pick<FieldProps, 'name' | 'option' | 'onChange' | 'onInvalid'> & {
  readonly value: number
  readonly label: string
  readonly description: string
  readonly className: string | undefined
}

function NumberField({ name, option, value, onChange, onInvalid, ...input }: NumberProps) {
  // what is being typed, while it differs from the value in force
  const [draft, setDraft] = useState<string | null>(null)
  const why = draft === null ? null : whyNot(name, option, draft)
  const forget = useEffectEvent(() => {
    onInvalid(name, null)
  })
  // a draft goes with its field: the value in force is what counts then
  useEffect(
    () => () => {
      forget()
    },
    [],
  )
  return (
    <TextInput
      {...input}
      inputMode={option.kind === 'int' ? 'numeric' : 'decimal'}
      value={draft ?? written(value)}
      error={why === null ? undefined : `${why}. ${written(value)} stays in use.`}
      onChange={(e) => {
        const text = e.currentTarget.value
        setDraft(text)
        const problem = whyNot(name, option, text)
        onInvalid(name, problem)
        if (problem === null) onChange(name, parseText(name, option, text))
      }}
      onBlur={() => {
        if (why === null) setDraft(null)
      }}
      onKeyDown={(e) => {
        if (e.key !== 'ArrowUp' && e.key !== 'ArrowDown') return
        e.preventDefault()
        const up = e.key === 'ArrowUp'
        const next = option.kind === 'float' ? (up ? value * 2 || option.step : value / 2) : value + (up ? 1 : -1)
        if (whyNot(name, option, String(next)) !== null) return
        setDraft(null)
        onInvalid(name, null)
        onChange(name, next)
      }}
    />
  )
}
