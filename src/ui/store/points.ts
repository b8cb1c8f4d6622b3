/** @file Points of runs by run id, outside React state. */
import type { StepRecord } from '../../train/run_config.ts'
import { PointSeries } from '../charts/series.ts'

const series = new Map<string, PointSeries>()
const EMPTY = new PointSeries()

/** The points of a run; an empty series for none. */
export const pointsOf = (runId: string | null): PointSeries => (runId === null ? EMPTY : (series.get(runId) ?? EMPTY))
export const setPoints = (runId: string, records: readonly StepRecord[]): void => {
  series.set(runId, new PointSeries(records))
}
export const addPoint = (runId: string, record: StepRecord): void => {
  const known = series.get(runId)
  if (known) known.push(record)
}
export const dropPoints = (runId: string): void => {
  series.delete(runId)
}
