/** @file The newest points of a run for React, at a rate people can read. */
import { useEffect, useState } from 'react'
import type { PointSeries } from '../charts/series.ts'
import { pointsOf } from './points.ts'

/** Least time between two renderings, in ms. */
const EVERY = 200

/** The point series of a run; renders again a few times a second while points come in. */
export function usePoints(runId: string | null): PointSeries {
  const points = pointsOf(runId)
  const [, setVersion] = useState(0)
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const stop = points.subscribe(() => {
      timer ??= setTimeout(() => {
        timer = undefined
        setVersion(points.version)
      }, EVERY)
    })
    return () => {
      stop()
      clearTimeout(timer)
    }
  }, [points])
  return points
}
