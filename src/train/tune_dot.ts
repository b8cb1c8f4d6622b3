/** @file Whether packed products make new tokens faster on a device: one measurement of decode-like products, with them and without, on a weight of its own. */
import { linear } from '../autograd/ops/linear.ts'
import { type Gpu, targetOf } from '../gpu/device.ts'
import { waitFor } from '../gpu/wait.ts'
import { within } from '../kernels/tune.ts'
import { weightBytes } from '../kernels/weight_formats.ts'
import { Graph } from '../tensor/graph.ts'
import { type Program, Session, SessionPlan } from '../tensor/program.ts'
import { Recorder } from '../tensor/recorder.ts'
import { Storage } from '../tensor/storage.ts'

/** 64 MiB of words, more than caches hold, read as the projections of a model of a billion weights are: matrix by matrix, a row of activations each. */
const SIZE = { format: 'q4_0', rows: 65_536, cols: 2048 } as const
const MATRIX = 4096
/** A submit lasts about this long, in ms: above what it takes by itself. */
const LONG_ENOUGH = 8
const MOST_REPEATS = 32
const ROUNDS = 3
/** How much faster they must be, as they are less exact. */
const MARGIN = 0.95

/** Null where it is not known: `limit` ms were not enough, it was called off, or the device refused something. Throws nothing; nothing stays allocated. */
export async function dotIsFaster(
  gpu: Gpu,
  { limit = 500, signal }: { limit?: number; signal?: AbortSignal } = {},
): Promise<boolean | null> {
  const began = performance.now()
  const late = (): boolean => signal?.aborted === true || performance.now() - began > limit
  const bytes = weightBytes(SIZE.format, SIZE.rows, SIZE.cols)
  if (!gpu.traits.dot || limit <= 0 || bytes.data > gpu.traits.maxBindingSize) return null
  const storages = [bytes.data, bytes.scales, 4 * SIZE.cols].map((bytes) => new Storage('tuning', bytes, 'weights'))
  const trace = (dot: boolean): Graph => {
    const g = new Graph({ ...targetOf(gpu.traits), dot })
    const [data, scales] = storages.map((s) => g.leaf(s, [s.bytes / 4]))
    const x = g.leaf(storages[2], [1, SIZE.cols])
    for (let from = 0; from < SIZE.rows; from += MATRIX) linear(x, { ...SIZE, data, scales }, { range: { from, rows: MATRIX } })
    return g
  }
  const plan = new SessionPlan(
    [false, true].map((dot) => ({ name: String(dot), graph: trace(dot) })),
    storages,
  )
  const made = Session.create(gpu, plan)
  let session: Session | null = null
  try {
    session = await within(limit, signal, made)
    if (!session) return null
    const [plain, packed] = session.programs
    for (const p of [packed, plain]) {
      await time(gpu, p, 1)
      if (late()) return null
    }
    const times = Math.max(1, Math.min(MOST_REPEATS, Math.round(LONG_ENOUGH / (await time(gpu, plain, 1)))))
    const best = [Infinity, Infinity]
    for (let round = 0; round < ROUNDS; round++)
      for (const [i, p] of [plain, packed].entries()) {
        if (late()) return null
        best[i] = Math.min(best[i], await time(gpu, p, times))
      }
    return best[1] < MARGIN * best[0]
  } catch {
    return null
  } finally {
    // What is still being compiled goes as soon as it is there.
    const gone = made
      .then((session) => {
        session.destroy()
      })
      .catch(() => undefined)
      .then(() => {
        for (const s of storages) s.destroy()
      })
    if (session) await gone
  }
}

/** ms of one run among `times`. */
async function time(gpu: Gpu, program: Program, times: number): Promise<number> {
  const out = new Recorder(gpu)
  for (let i = 0; i < times; i++) program.record(out)
  const began = performance.now()
  out.flush()
  await waitFor(gpu.device.queue.onSubmittedWorkDone())
  return (performance.now() - began) / times
}
