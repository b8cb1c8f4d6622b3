/** @file Where Etude stands among the peers of a case: the fastest, and the fastest that computes the same. */
import type { Row } from '../report.ts'

/** First losses come from the same weights and batch, and differ by rounding alone. */
const SAME_LOSS = 0.01

export interface Standing {
  readonly own: Row
  readonly fastest: Row
  /** Of those whose first loss is Etude's; null where none is. */
  readonly right: Row | null
}

const isRight = (own: Row, peer: Row): boolean => !(Math.abs((own.first_loss ?? NaN) - (peer.first_loss ?? NaN)) > SAME_LOSS)

/** Null where Etude or every peer is missing. */
export function standingOf(rows: readonly Row[], name: string): Standing | null {
  const own = rows.find((r) => r.case === name && r.engine === 'etude')
  const peers = rows.filter((r) => r.case === name && r.engine !== 'etude').sort((a, b) => a.ms - b.ms)
  if (!own || peers.length === 0) return null
  return { own, fastest: peers[0], right: peers.find((p) => isRight(own, p)) ?? null }
}
