/** @file Counts over token rows: lengths, and what cutting at a length costs. */
import { countTrained } from './labels.ts'
import type { CutStats, LengthStats } from './report.ts'
import { rowCount, type TokenRows } from './types.ts'

const BINS = 40
const roundUp8 = (n: number): number => Math.ceil(n / 8) * 8

function* spans(sets: readonly TokenRows[]): Generator<{ rows: TokenRows; from: number; to: number }> {
  for (const rows of sets) for (let r = 0; r < rowCount(rows); r++) yield { rows, from: rows.offsets[r] ?? 0, to: rows.offsets[r + 1] ?? 0 }
}

/** What cutting every row at `seq` tokens does. One pass over the labels. */
export function cutStats(sets: readonly TokenRows[], seq: number): CutStats {
  let truncated = 0
  let answersCut = 0
  let lost = 0
  let trainableTokens = 0
  let totalTokens = 0
  for (const { rows, from, to } of spans(sets)) {
    const end = Math.min(to, from + seq)
    const kept = countTrained(rows.labels, from, end)
    trainableTokens += kept
    totalTokens += end - from
    if (end === to) continue
    truncated++
    const cut = countTrained(rows.labels, end - 1, to)
    if (cut > 0) answersCut++
    if (cut > 0 && kept === 0) lost++
  }
  return { seq, truncated, answersCut, lost, trainableTokens, totalTokens }
}

/** Quantiles are lengths of actual rows (nearest rank). */
export function lengthStats(sets: readonly TokenRows[]): LengthStats {
  const lengths = Uint32Array.from(spans(sets), ({ from, to }) => to - from).sort()
  const quantile = (q: number): number => lengths[Math.max(0, Math.ceil(q * lengths.length) - 1)] ?? 0
  const max = lengths.at(-1) ?? 0
  const binWidth = Math.max(1, max > 4 * BINS ? roundUp8((max + 1) / BINS) : Math.ceil((max + 1) / BINS))
  const bins = new Array<number>(Math.floor(max / binWidth) + 1).fill(0)
  for (const n of lengths) bins[Math.floor(n / binWidth)] += 1
  return {
    p50: quantile(0.5),
    p90: quantile(0.9),
    p99: quantile(0.99),
    max,
    binWidth,
    bins,
    suggestedSeq: roundUp8(Math.max(quantile(0.99), 8)),
  }
}

/** sha-256, hex, over the arrays in order. Needs a secure context, as WebGPU does. */
export async function hashRows(sets: readonly TokenRows[]): Promise<string> {
  const parts = sets.flatMap((s) => [s.ids, s.labels, s.offsets])
  const digests = await Promise.all(parts.map((a) => crypto.subtle.digest('SHA-256', a)))
  const whole = new Uint8Array(digests.length * 32)
  digests.forEach((d, i) => whole.set(new Uint8Array(d), i * 32))
  return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', whole)), (b) => b.toString(16).padStart(2, '0')).join('')
}
