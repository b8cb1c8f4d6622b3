/** @file The step's inputs on the GPU: token ids, positions, attention starts and the list of labelled rows, written anew for each micro-batch. */
import type { Batch } from '../data/collate.ts'
import { derived, type Graph, type Scalar, ScalarInput, type Tensor } from '../tensor/graph.ts'
import { Storage } from '../tensor/storage.ts'
import type { NetworkInputs } from '../nn/network.ts'
import type { LabelledRows } from '../objectives/sft.ts'

const NONE = 0xffffffff
const IGNORE = -100

export class BatchBuffers {
  /** Live sizes of the micro-batch that was written last. */
  readonly text = new ScalarInput(1)
  readonly labels = new ScalarInput(0)
  /** 1 / labels of the optimizer step. */
  readonly scale = new ScalarInput(1)
  readonly tokens: Scalar
  readonly rows: Scalar
  readonly #maxRows: number
  readonly #ids: Storage
  readonly #positions: Storage
  readonly #starts: Storage
  readonly #index: Storage
  readonly #inverse: Storage
  readonly #targets: Storage
  readonly lossSum = new Storage('loss', 4, 'batch')

  /** @param batch sequences, always this many  @param maxText longest text, tokens (a multiple of 8)  @param prompt virtual tokens before it */
  constructor(
    readonly batch: number,
    readonly maxText: number,
    readonly prompt: number,
  ) {
    this.tokens = derived(() => prompt + this.text.value)
    this.rows = derived(() => batch * (prompt + this.text.value))
    this.#maxRows = batch * (prompt + maxText)
    const make = (label: string, n: number) => new Storage(label, n * 4, 'batch')
    this.#ids = make('token ids', batch * maxText)
    this.#positions = make('positions', this.#maxRows)
    this.#starts = make('attention starts', this.#maxRows)
    this.#index = make('labelled rows', this.maxLabels)
    this.#inverse = make('label of each row', this.#maxRows)
    this.#targets = make('targets', this.maxLabels)
  }
  /** Labels that a micro-batch may have: a prompt's last position predicts the first token. */
  get maxLabels(): number {
    return Math.ceil((this.batch * (this.maxText + (this.prompt > 0 ? 1 : 0))) / 64) * 64
  }
  storages(): Storage[] {
    return [this.#ids, this.#positions, this.#starts, this.#index, this.#inverse, this.#targets, this.lossSum]
  }

  networkInputs(g: Graph, promptTensor: Tensor | null): NetworkInputs {
    const { batch, maxText, tokens, text, rows } = this
    const u32 = (s: Storage, n: number, live: Scalar) => g.leaf(s, [n], { dtype: 'u32', rows: live })
    return {
      ids: u32(
        this.#ids,
        batch * maxText,
        derived(() => batch * text.value),
      ),
      positions: u32(this.#positions, this.#maxRows, rows),
      starts: u32(this.#starts, this.#maxRows, rows),
      batch,
      tokens,
      prompt: promptTensor,
      textTokens: text,
      maxBatch: batch,
    }
  }
  labelledRows(g: Graph): LabelledRows {
    const u32 = (s: Storage, n: number) => g.leaf(s, [n], { dtype: 'u32' })
    return {
      index: u32(this.#index, this.maxLabels),
      inverse: u32(this.#inverse, this.#maxRows),
      targets: u32(this.#targets, this.maxLabels),
      count: this.labels,
      scale: this.scale,
      lossSum: g.leaf(this.lossSum, [1]),
    }
  }

  /** How many labels `write` will find. `first`: the label of each sequence's first token, which a prompt makes predictable. */
  count(b: Batch, first: readonly number[] | null): number {
    return b.labelled + (this.prompt > 0 && first ? first.filter((l) => l !== IGNORE).length : 0)
  }

  /** Upload a micro-batch of exactly `batch` sequences. */
  write(b: Batch, first: readonly number[] | null): void {
    const { prompt: P } = this
    const [B, T, all] = [b.B, b.T, P + b.T]
    if (B !== this.batch || T > this.maxText) throw new Error(`a batch of ${B} x ${T} for buffers of ${this.batch} x ${this.maxText}`)
    const positions = new Uint32Array(B * all)
    const starts = new Uint32Array(B * all)
    const inverse = new Uint32Array(B * all).fill(NONE)
    const index: number[] = []
    const targets: number[] = []
    const label = (row: number, target: number): void => {
      inverse[row] = index.length
      index.push(row)
      targets.push(target)
    }
    for (let s = 0; s < B; s++) {
      for (let t = 0; t < P; t++) positions[s * all + t] = t
      if (P > 0 && first && first[s] !== IGNORE) label(s * all + P - 1, first[s])
      for (let t = 0; t < T; t++) {
        const row = s * all + P + t
        positions[row] = P + b.positions[s * T + t]
        starts[row] = P > 0 ? 0 : b.segmentStart[s * T + t]
        if (b.labels[s * T + t] !== IGNORE) label(row, b.labels[s * T + t])
      }
    }
    this.text.value = T
    this.labels.value = index.length
    this.#ids.write(Uint32Array.from(b.ids))
    this.#positions.write(positions)
    this.#starts.write(starts)
    this.#inverse.write(inverse)
    if (index.length > 0) {
      this.#index.write(Uint32Array.from(index))
      this.#targets.write(Uint32Array.from(targets))
    }
  }
}
