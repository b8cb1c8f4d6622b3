/** @file Step 4: the plan of the next run, or the run that is shown: under way, waiting, finished or of an earlier day. */
import { goTo } from '../actions/choose.ts'
import { currentRun } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { RunHistory } from './RunHistory.tsx'
import { RunSetup } from './RunSetup.tsx'
import { RunScreen } from './RunScreen.tsx'

export function TrainPanel() {
  const run = useStudio(currentRun)
  return (
    <>
      {run ? (
        <RunScreen
          key={run.runId}
          run={run}
          onTry={() => {
            goTo('try')
          }}
        />
      ) : (
        <RunSetup />
      )}
      <RunHistory />
    </>
  )
}
