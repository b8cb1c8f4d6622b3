/** @file Generation with SmolLM2-135M: reading a prompt is held against the adapter's arithmetic, a new token against its memory. */
import type { Row } from '../report.ts'
import { NONE, number, table } from './markdown.ts'
import { caseOf, copyOf, type Part, softwareOf } from './report.ts'

/** A new token by what the weights are stored as: what it takes beyond its dispatches, a megabyte of weights. */
function decodeTable(decodes: readonly Row[], floor: number): string {
  const cells = (r: Row) => {
    const read = r.gb_per_s! * r.ms
    return [r.base ?? NONE, r.ms.toFixed(1), read.toFixed(0), (r.ms - floor).toFixed(1), ((1000 * (r.ms - floor)) / read).toFixed(0), number(r.percent_of_peak)] // prettier-ignore
  }
  return table(['base', 'ms a token', 'MB of weights', 'ms beyond dispatches', 'µs a MB', '% of a copy’s rate'], decodes.map(cells))
}

/** What a token's time is made of, and what limits it. */
function decodeText(rows: readonly Row[], decodes: readonly Row[]): string[] {
  const floor = caseOf(rows, 'smollm2-decode-floor')[0]?.ms
  const copy = copyOf(rows)
  if (floor === undefined || decodes.length < 2) return []
  const [{ ms }] = decodes
  const atCopy = copy === null ? '' : `, where a copy would take ${(1000 / copy).toFixed(0)}`
  return [
    `A model of as many layers with next to no weights takes ${floor.toFixed(1)} ms a token: that is what the dispatches take, ${((100 * floor) / ms).toFixed(0)} % of the token above. The rest is reading the weights and unpacking them:`,
    '',
    decodeTable(decodes, floor),
    '',
    `${floor < ms / 2 ? 'Weights limit a token here, not dispatches' : 'Dispatches take the larger part here'}. µs a MB is the time beyond dispatches for each megabyte of weights${atCopy}: what packed weights take above that of wide ones is unpacking.`,
    '',
  ]
}

function packedText(decode: Row, packed: Row | undefined, software: boolean): string[] {
  if (!packed) return []
  const rate = `With products of packed whole numbers ([why](adr/0007-packed-products-for-new-tokens.md)) a new token takes ${packed.ms.toFixed(1)} ms instead of ${decode.ms.toFixed(1)}`
  return packed.ms < decode.ms
    ? [`${rate}.`, '']
    : [
        `${rate}: slower on this adapter${software ? ', a CPU that is given no instruction for them: they gain nothing there, and rounding the activations is extra work' : ''}. They are used only where a measurement on the device finds them faster; here they are not.`,
        '',
      ]
}

export function generationPart({ report, rows }: Part): string[] {
  const prefill = caseOf(rows, 'smollm2-prefill')[0]
  const decodes = caseOf(rows, 'smollm2-decode').filter((r) => r.engine === 'etude')
  const packed = caseOf(rows, 'smollm2-decode').find((r) => r.engine === 'etude-dot')
  const decode = decodes[0]
  if (!prefill || !decode) return []
  return [
    `- A prompt of ${prefill.seq} tokens: ${number(prefill.tokens_per_s)} tokens/s, ${number(prefill.gflops, 1)} GFLOP/s (${number(prefill.percent_of_peak)} % of the peak).`,
    `- A new token: ${number(decode.tokens_per_s, 1)} a second, ${decode.ms.toFixed(1)} ms each, ${decode.dispatches} dispatches in ${decode.submits === 1 ? 'one submit' : `${decode.submits} submits`}; its weights are read at ${number(decode.gb_per_s, 1)} GB/s (${number(decode.percent_of_peak)} % of a copy’s rate).`,
    '',
    ...decodeText(rows, decodes),
    ...packedText(decode, packed, softwareOf(report) !== null),
  ]
}
