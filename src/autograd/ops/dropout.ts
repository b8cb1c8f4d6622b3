/** @file Dropout with counter-based random numbers: the mask is a pure function of (seed, step, stream, element), so nothing is stored and
 * recomputation sees the same one. */
import { OptionError } from '../../errors.ts'
import { dropoutKernel } from '../../kernels/dropout.ts'
import { type Dim, type Tensor } from '../../tensor/graph.ts'
import { liveVec4s } from './live.ts'

export interface RandomStream {
  /** u32, of the run. */
  readonly seed: Dim
  /** u32, of the forward pass: every micro-batch needs another. Default 0, for seeds that already differ. */
  readonly step?: Dim
  /** u32, of the place in the model. */
  readonly stream: number
}

/** x with each element set to 0 with probability p, the others divided by 1 - p. 0 ≤ p < 1; p = 0 is x itself.
 * Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html; Philox4x32-10 for the mask. */
export function dropout(x: Tensor, p: number, { seed, step = 0, stream }: RandomStream): Tensor {
  if (!(p >= 0 && p < 1)) throw new OptionError(`a dropout of ${p} is not a probability below 1`, { fix: 'Choose a value from 0 to 0.99' })
  if (p === 0) return x
  const g = x.graph
  const emit = (from: Tensor, out: Tensor, add: boolean): Tensor => {
    const threshold = Math.min(0xffffffff, Math.round(p * 2 ** 32))
    g.call(
      dropoutKernel,
      { x: from, out },
      { len: liveVec4s(x), seed, step, stream, threshold, scale: 1 / (1 - p) },
      { flags: add ? ['add'] : [] },
    )
    return out
  }
  const out = g.node('dropout', x.shape, [x], (dy) => [(into) => emit(dy, into ?? g.node('dropout dx', x.shape, [x], null), into !== null)])
  return emit(x, out, false)
}
