/** @file The export: made, loaded back, compared; only then offered. */
import { Button } from '@mantine/core'
import { CircleCheck, Download, Package } from 'lucide-react'
import { cancelExport, makeExport, methodOfSource, sourceOf } from '../actions/try.ts'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { Card } from '../components/parts.tsx'
import { Working } from '../components/Working.tsx'
import { bytes, sig3 } from '../format.ts'
import { isRunning } from '../store/select.ts'
import { useStudio } from '../store/store.ts'

export function ExportCard() {
  const state = useStudio((s) => s)
  const { exporting } = state
  const source = sourceOf(state)
  const method = methodOfSource(state)
  const full = method?.slot === 'weights'
  const locked = !source || exporting.status === 'working' || isRunning(state) || state.model.info === null
  const result = exporting.result
  return (
    <Card title="Export">
      <div className="stack" style={{ gap: 14 }}>
        {!source && <p className="soft">There is something to export once a run has made a step.</p>}
        <div className="row">
          <Button
            leftSection={<Package size={15} aria-hidden />}
            disabled={locked}
            onClick={() => void makeExport('adapter')}
            data-testid="export-adapter"
          >
            {full ? 'Make the weights zip' : 'Make the adapter zip'}
          </Button>
          {(method?.merges ?? false) && !full && (
            <Button
              leftSection={<Package size={15} aria-hidden />}
              disabled={locked}
              onClick={() => void makeExport('merged')}
              data-testid="export-merged"
            >
              Make the merged model
            </Button>
          )}
          {method && !method.merges && <span className="small soft">{method.title} does not merge into the weights.</span>}
        </div>
        {exporting.status === 'working' && (
          <Working label="Writing, loading back, comparing" progress={exporting.progress} onCancel={cancelExport} />
        )}
        {exporting.error && <ErrorCard error={exporting.error} />}
        {result && (
          <div className="note row" style={{ alignItems: 'center' }}>
            <CircleCheck size={18} color="var(--good)" aria-hidden />
            <div style={{ flex: '1 1 260px' }} data-testid="export-check">
              <b>{result.name}</b> <span className="soft">{bytes(result.bytes)}</span>
              <p className="small">
                Loaded back: the logits differ by at most <b data-testid="export-diff">{sig3(result.check.maxAbsDiff)}</b>, on “
                {result.check.prompt.trim()}”.
              </p>
            </div>
            <Button
              component="a"
              variant="default"
              href={result.url}
              download={result.name}
              leftSection={<Download size={15} aria-hidden />}
              data-testid="download"
            >
              Download
            </Button>
          </div>
        )}
        <table className="table">
          <caption className="unseen">What is in an export and what loads it</caption>
          <tbody>
            <tr>
              <th scope="row">Adapter zip</th>
              <td>
                adapter_model.safetensors, adapter_config.json, model card, run manifest. For PEFT and Transformers; loads here again to try
                or to continue.
              </td>
            </tr>
            <tr>
              <th scope="row">Merged model</th>
              <td>
                A safetensors folder with config and tokenizer, the adapter folded into the weights. For Transformers and whatever reads its
                folders.
              </td>
            </tr>
          </tbody>
        </table>
      </div>
    </Card>
  )
}
