/** @file Known answers for each optional path, computed on a device at its start: a path that a driver gets wrong is switched off, and said. */
import type { Gpu, GpuTraits } from '../gpu/device.ts'
import { Graph, numel } from '../tensor/graph.ts'
import { Session, SessionPlan } from '../tensor/program.ts'
import { Storage } from '../tensor/storage.ts'
import { immediatesCheck, type PathCheck, pathChecks, type Trial, tunedChecks } from './path_checks.ts'

/** f32 sums of tens of terms below 1. */
const TOLERANCE = 1e-4

export interface SelfCheck {
  /** What to do without: `gpu.adopt` takes it. */
  readonly off: Partial<GpuTraits>
  /** A line for each path that is switched off. */
  readonly notes: readonly string[]
  readonly ms: number
}

/** Runs every check whose path the device has. A wrong answer, a refusal or an error switches that path off; nothing is thrown. Immediates are switched off
 * here and now, as the other paths use them. */
export async function selfCheck(gpu: Gpu): Promise<SelfCheck> {
  const began = performance.now()
  const failed = await failures(gpu, immediatesCheck(gpu.traits))
  if (failed.length > 0) gpu.adopt({ immediates: 0 })
  return summary([...failed, ...(await failures(gpu, pathChecks(gpu.traits)))], began)
}

/** The same for what the device was tuned to. */
export async function checkTuned(gpu: Gpu): Promise<SelfCheck> {
  const began = performance.now()
  return summary(await failures(gpu, tunedChecks(gpu.traits)), began)
}

interface Failure {
  readonly check: PathCheck
  readonly why: string
}
async function failures(gpu: Gpu, checks: readonly PathCheck[]): Promise<Failure[]> {
  const found = await Promise.all(checks.map(async (check) => ({ check, why: await wrong(gpu, check) })))
  return found.flatMap(({ check, why }) => (why === null ? [] : [{ check, why }]))
}
const summary = (failed: readonly Failure[], began: number): SelfCheck => ({
  off: Object.assign({}, ...failed.map((f) => f.check.off)) as Partial<GpuTraits>,
  notes: failed.map((f) => `${f.check.label} gave wrong results (${f.why}): switched off.`),
  ms: performance.now() - began,
})

/** Why an answer is wrong, or null. */
async function wrong(gpu: Gpu, { target, build }: PathCheck): Promise<string | null> {
  const g = new Graph(target)
  const storages: { readonly s: Storage; readonly data: ArrayBufferView<ArrayBuffer> }[] = []
  const place = (bytes: number, data: ArrayBufferView<ArrayBuffer>): Storage => {
    const s = new Storage('self-check', Math.max(data.byteLength, bytes), 'batch')
    storages.push({ s, data })
    return s
  }
  const leaf: Trial['leaf'] = (shape, data, { grad } = { grad: false }) => {
    const bytes = numel(shape) * 4
    const sink = grad ? g.leaf(place(bytes, new Float32Array(numel(shape))), shape) : null
    return g.leaf(place(bytes, data), shape, { dtype: data instanceof Uint32Array ? 'u32' : 'f32', needsGrad: grad, sink })
  }
  let session: Session | null = null
  try {
    const answers = build({ g, leaf })
    for (const { s, data } of storages) s.allocate(gpu).write(data)
    session = await Session.create(gpu, new SessionPlan([{ name: 'check', graph: g, keep: answers.map((a) => a.out) }]))
    const [program] = session.programs
    program.run()
    for (const { out, want } of answers) {
      const got = await program.read(out)
      for (let i = 0; i < want.length; i++) {
        const off = Math.abs(got[i] - want[i])
        if (!(off <= TOLERANCE * Math.max(1, Math.abs(want[i])))) return `element ${i} is ${got[i]}, not ${want[i].toPrecision(6)}`
      }
    }
    return null
  } catch (e) {
    return e instanceof Error ? e.message : String(e)
  } finally {
    session?.destroy()
    for (const { s } of storages) s.destroy()
  }
}
