/** @file How much is held out, what the loss counts, and which chat template renders the rows. */
import { Select, Slider, TextInput } from '@mantine/core'
import { useState } from 'react'
import { setDataSettings } from '../actions/data.ts'
import { Card, Disclosure } from '../components/parts.tsx'
import { group } from '../format.ts'
import { useStudio } from '../store/store.ts'
import { TemplateEditor } from './TemplateEditor.tsx'

/** Loss on … as the select has it. */
const LOSS = [
  { value: 'auto', label: 'automatic' },
  { value: 'true', label: 'answers only' },
  { value: 'false', label: 'every token' },
]

export function SplitCard() {
  const settings = useStudio((s) => s.choices.dataSettings)
  const stats = useStudio((s) => s.data.summary?.stats)
  const [share, setShare] = useState<number | null>(null)
  const [seed, setSeed] = useState<string | null>(null)
  const [open, setOpen] = useState(false)
  const percentHeld = share ?? Math.round(settings.evalFraction * 100)
  const seedBad = seed !== null && !/^\d{1,9}$/.test(seed)
  return (
    <Card
      title="Held out"
      aside={
        stats && (
          <span className="soft small">
            {group(stats.train)} to train on, {group(stats.held)} held out
          </span>
        )
      }
    >
      <div className="stack">
        <div className="row" style={{ flexWrap: 'nowrap', gap: 14 }}>
          <Slider
            style={{ flex: 1 }}
            min={0}
            max={50}
            value={percentHeld}
            label={(v) => `${v} %`}
            thumbLabel="Share of rows held out, in percent"
            data-testid="eval-fraction"
            onChange={setShare}
            onChangeEnd={(v) => {
              setShare(null)
              void setDataSettings({ evalFraction: v / 100 })
            }}
          />
          <span style={{ width: 44, textAlign: 'right' }}>{percentHeld}&nbsp;%</span>
        </div>
        <div className="form" style={{ gridTemplateColumns: 'minmax(0, 2fr) minmax(0, 3fr)' }}>
          <TextInput
            label="Seed of the split"
            inputMode="numeric"
            value={seed ?? String(settings.seed)}
            error={seedBad ? 'expected a whole number' : undefined}
            onChange={(e) => {
              setSeed(e.currentTarget.value)
            }}
            onBlur={() => {
              if (seed !== null && !seedBad) void setDataSettings({ seed: Number(seed) })
              setSeed(null)
            }}
            data-testid="split-seed"
          />
          <Select
            label="Loss on"
            description="Automatic: answers only, and all of plain text."
            inputWrapperOrder={['label', 'input', 'error', 'description']}
            data={LOSS}
            value={settings.completionOnly === null ? 'auto' : String(settings.completionOnly)}
            onChange={(v) => {
              void setDataSettings({ completionOnly: v === 'auto' ? null : v === 'true' })
            }}
            data-testid="loss-on"
          />
        </div>
        <div>
          <Disclosure
            open={open}
            onToggle={() => {
              setOpen(!open)
            }}
          >
            Chat template{settings.template === null ? '' : settings.template === '' ? ': not used' : ': your own'}
          </Disclosure>
        </div>
        {open && <TemplateEditor />}
      </div>
    </Card>
  )
}
