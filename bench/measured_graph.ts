/** @file Graphs that are measured: leaves with contents, whole programs, and single dispatches of what an op traces, planned and replayed as in a training step. */
import type { Gpu } from '../src/gpu/device.ts'
import { waitFor } from '../src/gpu/wait.ts'
import { Graph, numel, type Shape, type TargetTraits, type Tensor } from '../src/tensor/graph.ts'
import { root } from '../src/tensor/plan.ts'
import { type Program, Session, SessionPlan } from '../src/tensor/program.ts'
import { Recorder } from '../src/tensor/recorder.ts'
import { readBuffer, Storage } from '../src/tensor/storage.ts'
import type { Run } from './timing.ts'

export type Words = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>

/** A graph whose leaves are given with what they hold. */
export class MeasuredGraph {
  readonly graph: Graph
  readonly #storages: Storage[] = []
  readonly #sessions: Session[] = []
  /** @param target what ops choose kernels by. Nothing is cut or submitted before its time: what is measured is short. */
  constructor(
    readonly gpu: Gpu,
    target: TargetTraits,
  ) {
    this.graph = new Graph({ ...target, pace: null })
  }

  /** A persistent tensor. `contents`: its words, or a value of all its elements. `needsGrad`: ops trace its gradient. */
  leaf(label: string, shape: Shape, contents: Words | number, needsGrad = false): Tensor {
    const words = typeof contents === 'number' ? new Float32Array(numel(shape)).fill(contents) : contents
    const storage = new Storage(label, words.byteLength, 'weights')
    this.#storages.push(storage)
    storage.allocate(this.gpu).write(words)
    return this.graph.leaf(storage, shape, { dtype: words instanceof Uint32Array ? 'u32' : 'f32', needsGrad })
  }

  /** All that was traced, as one program. */
  async whole(keep: readonly Tensor[] = []): Promise<{ readonly run: Run; readonly read: (t: Tensor) => Promise<Float32Array> }> {
    const program = (await this.#session([{ name: 'whole', graph: this.graph, keep }])).programs[0]
    return { run: repeated(program), read: (t) => program.read(t) }
  }

  /** Each call that was traced, in order, as a program of its own over the same buffers: what one leaves the next one reads. */
  async apart(): Promise<{ readonly runs: readonly Run[]; readonly read: (t: Tensor) => Promise<Float32Array> }> {
    const rooms = new Map<Tensor, Storage>()
    const roomOf = (t: Tensor): Storage => {
      const owner = root(t)
      let room = owner.storage ?? rooms.get(owner)
      if (!room) {
        room = new Storage(owner.op, owner.bytes, 'activations')
        rooms.set(owner, room)
        this.#storages.push(room)
      }
      return room
    }
    const specs = this.graph.calls.map((call, i) => {
      const alone = new Graph(this.graph.target)
      const bound = Object.entries(call.buffers).map(([name, t]) => {
        const { shape, dtype, byteOffset } = t
        return [name, alone.leaf(roomOf(t), shape, { dtype, byteOffset })] as const
      })
      alone.calls.push({ ...call, buffers: Object.fromEntries(bound) })
      return { name: `call ${i}`, graph: alone }
    })
    const { programs } = await this.#session(specs)
    const read = async (t: Tensor) => new Float32Array(await readBuffer(this.gpu, roomOf(t).buffer, t.byteOffset, t.bytes))
    return { runs: programs.map(repeated), read }
  }

  async #session(specs: ConstructorParameters<typeof SessionPlan>[0]): Promise<Session> {
    const session = await Session.create(this.gpu, new SessionPlan(specs))
    this.#sessions.push(session)
    return session
  }

  dispose(): void {
    for (const s of this.#sessions) s.destroy()
    for (const s of this.#storages) s.destroy()
  }
}

/** Records the program so many times, submits all at once and waits: the time is that of the submit. */
const repeated =
  (program: Program): Run =>
  async (times) => {
    const out = new Recorder(program.gpu)
    for (let i = 0; i < times; i++) program.record(out)
    const began = performance.now()
    out.flush()
    await waitFor(program.gpu.device.queue.onSubmittedWorkDone())
    return performance.now() - began
  }
