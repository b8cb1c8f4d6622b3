/** @file What keeps the run from starting, with the way to put it right. Nothing where it can start. */
import { Button } from '@mantine/core'
import { goTo } from '../actions/choose.ts'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { obstacle } from '../store/select.ts'
import { useStudio } from '../store/store.ts'

/** `all`: also what is only not there yet, such as a model that is loading. */
export function PlanProblem({ all = false }: { all?: boolean }) {
  const state = useStudio((s) => s)
  const found = obstacle(state)
  const here = state.choices.step
  // a missing GPU has its own place at the top of every step
  if (!found || state.engine.status !== 'ready') return null
  if (found.error)
    return (
      <ErrorCard error={found.error} tone={found.at === 'train' ? 'warn' : 'bad'}>
        {found.at !== here && found.at !== 'train' && (
          <Button
            size="xs"
            onClick={() => {
              goTo(found.at)
            }}
          >
            Go to {found.at}
          </Button>
        )}
        {found.at === 'train' && here === 'train' && (
          <Button
            size="xs"
            onClick={() => {
              goTo('method')
            }}
          >
            Change the options
          </Button>
        )}
      </ErrorCard>
    )
  if (!all) return null
  return (
    <div className="note row" data-testid="obstacle">
      <span>{found.text}</span>
      <span className="grow" />
      {found.at !== here && (
        <Button
          size="xs"
          onClick={() => {
            goTo(found.at)
          }}
        >
          Go to {found.at}
        </Button>
      )}
    </div>
  )
}
