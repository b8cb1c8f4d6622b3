/** @file Step 4: the plan of the next run, or the run that is shown: under way, waiting, finished or of an earlier day. */
import { currentRun } from '../store/select.ts'
import { useStudio } from '../store/store.ts'
import { RunHistory } from './RunHistory.tsx'
import { RunScreen } from './RunScreen.tsx'
import { RunSetup } from './RunSetup.tsx'

export function TrainPanel() {
  const run = useStudio(currentRun)
  return (
    <>
      {run ? <RunScreen key={run.runId} run={run} /> : <RunSetup />}
      <RunHistory />
    </>
  )
}
