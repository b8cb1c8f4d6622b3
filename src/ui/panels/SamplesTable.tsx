/** @file The same prompts before, during and after: one table a prompt. */
import { Card } from '../components/parts.tsx'
import { group } from '../format.ts'
import type { RunView } from '../store/state.ts'

export function SamplesTable({ run }: { run: RunView }) {
  const prompts = [...new Set([...run.extras.samplePrompts, ...run.samples.map((s) => s.prompt)])]
  if (prompts.length === 0) return null
  return (
    <Card
      title="The same prompt, as it learns"
      aside={
        <span className="soft small">greedy{run.extras.sampleEvery > 0 ? ` · every ${group(run.extras.sampleEvery)} steps` : ''}</span>
      }
    >
      <div className="stack" style={{ gap: 20 }} data-testid="samples">
        {prompts.map((prompt) => {
          const samples = run.samples.filter((s) => s.prompt === prompt)
          return (
            <table className="table" key={prompt}>
              <thead>
                <tr>
                  <th scope="col" style={{ width: 76 }}>
                    Step
                  </th>
                  <th scope="col" style={{ whiteSpace: 'pre-wrap', fontWeight: 400, color: 'var(--ink)' }}>
                    {prompt.trim()}
                  </th>
                </tr>
              </thead>
              <tbody>
                {samples.length === 0 && (
                  <tr>
                    <td className="soft">–</td>
                    <td className="soft">not sampled yet</td>
                  </tr>
                )}
                {samples.map((s) => (
                  <tr key={s.step}>
                    <td>{s.step === 0 ? 'before' : group(s.step)}</td>
                    <td className={s.step === 0 ? 'soft' : undefined} style={{ whiteSpace: 'pre-wrap' }}>
                      {s.text.trim() || <span className="soft">(nothing)</span>}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        })}
      </div>
    </Card>
  )
}
