/** @file How each file was understood, and the form that corrects it: the format, and which column is what. */
import { Button, Select } from '@mantine/core'
import { useState } from 'react'
import { FIELDS, FORMATS, type Field, type Format, type Inspection, type Mapping } from '../../data/report.ts'
import { resetMapping, setDataSettings } from '../actions/data.ts'
import { Card, Tag } from '../components/parts.tsx'
import { bytes, plural } from '../format.ts'
import { useStudio } from '../store/store.ts'

export const FORMAT_NAMES: Readonly<Record<Format, string>> = {
  messages: 'messages (OpenAI)',
  sharegpt: 'conversations (ShareGPT)',
  instruction: 'instruction, input, output',
  'prompt-completion': 'prompt, completion',
  text: 'plain text',
  tokens: 'tokenised rows',
}

export function FormatCard() {
  const inspection = useStudio((s) => s.data.inspection)
  const summary = useStudio((s) => s.data.summary)
  const settings = useStudio((s) => s.choices.dataSettings)
  const unread = inspection.some((i) => i.detection === null)
  const [open, setOpen] = useState(false)
  const chosen = settings.format !== null
  return (
    <Card
      title="Read as"
      aside={
        <Button
          size="xs"
          aria-expanded={open || unread}
          onClick={() => {
            setOpen(!open)
          }}
          data-testid="map-columns"
        >
          Not right? Map columns
        </Button>
      }
    >
      <div className="stack">
        {inspection.map((file) => {
          const report = summary?.files.find((f) => f.name === file.name)
          const detection = report?.detection ?? file.detection
          return (
            <div key={file.name} data-testid="detected">
              <div className="row" style={{ gap: '4px 10px' }}>
                <b>{file.name}</b>
                <span className="soft small">
                  {file.kind.toUpperCase()}, {bytes(file.bytes)}
                  {report ? `, ${plural(report.rows, 'row')}` : ''}
                </span>
                {detection && <Tag tone="accent">{FORMAT_NAMES[detection.format]}</Tag>}
                {chosen ? <Tag>chosen by you</Tag> : detection && detection.confidence < 0.8 && <Tag tone="warn">a guess</Tag>}
              </div>
              <p className="soft small" style={{ marginTop: 3 }}>
                {detection?.reason ?? file.problem ?? 'No format fits: say below which column is what.'}
              </p>
              {(report?.notes ?? file.notes).map((n) => (
                <p className="soft small" key={n}>
                  {n}
                </p>
              ))}
            </div>
          )
        })}
        {(open || unread) && inspection[0] && <MappingForm key={inspection[0].name} file={inspection[0]} />}
      </div>
    </Card>
  )
}

function MappingForm({ file }: { file: Inspection }) {
  const settings = useStudio((s) => s.choices.dataSettings)
  const [format, setFormat] = useState<Format>(settings.format ?? file.detection?.format ?? 'instruction')
  const [mapping, setMapping] = useState<Mapping>(settings.mapping ?? file.detection?.mapping ?? {})
  const { required, optional } = FIELDS[format]
  const complete = required.every((f) => mapping[f] !== undefined)
  const field = (name: Field, needed: boolean) => (
    <Select
      key={name}
      label={needed ? name : `${name} (optional)`}
      placeholder="choose a column"
      clearable={!needed}
      data={[...file.columns]}
      value={mapping[name] ?? null}
      data-testid={`map-${name}`}
      onChange={(column) => {
        const rest = Object.fromEntries(Object.entries(mapping).filter(([k]) => k !== name)) as Mapping
        setMapping(column === null ? rest : { ...rest, [name]: column })
      }}
    />
  )
  const columns = file.columns.slice(0, 6)
  return (
    <div className="stack" style={{ paddingTop: 4 }}>
      <div className="form">
        <Select
          label="Format"
          data={FORMATS.map((f) => ({ value: f, label: FORMAT_NAMES[f] }))}
          value={format}
          data-testid="map-format"
          onChange={(f) => {
            if (f === null) return
            setFormat(f)
            setMapping(f === file.detection?.format ? file.detection.mapping : {})
          }}
        />
        {required.map((f) => field(f, true))}
        {optional.map((f) => field(f, false))}
      </div>
      <div className="row">
        <Button
          disabled={!complete}
          data-testid="map-apply"
          onClick={() => {
            const names = new Set<string>([...required, ...optional])
            void setDataSettings({ format, mapping: Object.fromEntries(Object.entries(mapping).filter(([k]) => names.has(k))) })
          }}
        >
          Read it this way
        </Button>
        {settings.format !== null && (
          <Button variant="subtle" color="gray" onClick={() => void resetMapping()}>
            Detect again
          </Button>
        )}
      </div>
      {file.sample.length > 0 && (
        <div className="scroll" tabIndex={0} role="region" aria-label="First rows of the file">
          <table className="table">
            <thead>
              <tr>
                {columns.map((c) => (
                  <th key={c} scope="col">
                    {c}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {file.sample.slice(0, 3).map((row, i) => (
                <tr key={i}>
                  {columns.map((c) => (
                    <td key={c} className="mono small" style={{ minWidth: 120 }}>
                      {row[c] ?? ''}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  )
}
