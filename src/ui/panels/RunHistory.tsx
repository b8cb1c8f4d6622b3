/** @file Every run that is stored, with what it was and how it ended; show, resume, repeat or delete one. */
import { ActionIcon, Button, Tooltip } from '@mantine/core'
import { Copy, Trash2 } from 'lucide-react'
import { useState } from 'react'
import { deleteRun } from '../actions/run.ts'
import { repeatRun } from '../actions/choose.ts'
import { Card, Tag, type Tone } from '../components/parts.tsx'
import { ago, group, loss3 } from '../format.ts'
import { METHODS } from '../methods.ts'
import { bestEval } from '../store/reduce.ts'
import { pointsOf } from '../store/points.ts'
import type { RunView } from '../store/state.ts'
import { dispatch, useStudio } from '../store/store.ts'
import { STATUS_WORDS } from './RunScreen.tsx'

const TONES: Readonly<Record<RunView['status'], Tone>> = {
  running: 'accent',
  paused: 'warn',
  stopped: 'plain',
  done: 'good',
  failed: 'bad',
}

export function RunHistory() {
  const runs = useStudio((s) => s.runs)
  const current = useStudio((s) => s.current)
  const busy = useStudio((s) => s.busy)
  const [asking, setAsking] = useState<string | null>(null)
  const [now] = useState(() => Date.now())
  if (runs.length === 0) return null
  return (
    <Card title="Runs" aside={<span className="soft small">kept in this browser</span>}>
      <div className="scroll" tabIndex={0} role="region" aria-label="Runs">
        <table className="table" data-testid="runs" style={{ minWidth: 560 }}>
          <thead>
            <tr>
              <th scope="col">Run</th>
              <th scope="col">State</th>
              <th scope="col" className="figure">
                Step
              </th>
              <th scope="col" className="figure">
                Loss
              </th>
              <th scope="col" className="figure">
                Held-out
              </th>
              <th scope="col">
                <span className="unseen">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {runs.map((r) => {
              const last = pointsOf(r.runId).last()
              const best = bestEval(r.evals)
              return (
                <tr key={r.runId} data-testid="run-row">
                  <td>
                    <Button
                      variant="transparent"
                      size="compact-sm"
                      px={0}
                      fw={600}
                      aria-current={r.runId === current ? 'true' : undefined}
                      onClick={() => {
                        dispatch({ type: 'run-shown', runId: r.runId })
                        document.querySelector('main')?.scrollIntoView()
                      }}
                    >
                      {r.name}
                    </Button>
                    <div className="soft small">
                      {METHODS.get(r.config.method)?.title ?? r.config.method} · {r.modelName} · {ago(r.createdAt, now)}
                    </div>
                  </td>
                  <td>
                    <Tag tone={TONES[r.status]}>{STATUS_WORDS[r.status]}</Tag>
                  </td>
                  <td className="figure">
                    {group(last?.step ?? r.step)} / {group(r.config.run.steps)}
                  </td>
                  <td className="figure">{last ? loss3(last.loss) : '–'}</td>
                  <td className="figure">{best ? loss3(best.loss) : '–'}</td>
                  <td className="figure">
                    {asking === r.runId ? (
                      <span className="row" style={{ flexWrap: 'nowrap', justifyContent: 'flex-end' }}>
                        <Button
                          size="compact-xs"
                          color="red"
                          variant="filled"
                          onClick={() => {
                            setAsking(null)
                            void deleteRun(r.runId)
                          }}
                        >
                          Delete it
                        </Button>
                        <Button
                          size="compact-xs"
                          onClick={() => {
                            setAsking(null)
                          }}
                        >
                          Keep
                        </Button>
                      </span>
                    ) : (
                      <span className="row" style={{ gap: 2, flexWrap: 'nowrap', justifyContent: 'flex-end' }}>
                        <Tooltip label="Use the same choices for a new run">
                          <ActionIcon
                            size="md"
                            aria-label={`Repeat ${r.name}`}
                            onClick={() => {
                              repeatRun(r)
                            }}
                          >
                            <Copy size={15} aria-hidden />
                          </ActionIcon>
                        </Tooltip>
                        <ActionIcon
                          size="md"
                          aria-label={`Delete ${r.name}`}
                          disabled={busy || (r.live && r.status === 'running')}
                          onClick={() => {
                            setAsking(r.runId)
                          }}
                        >
                          <Trash2 size={15} aria-hidden />
                        </ActionIcon>
                      </span>
                    )}
                  </td>
                </tr>
              )
            })}
          </tbody>
        </table>
      </div>
    </Card>
  )
}
