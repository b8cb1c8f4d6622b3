/** @file An engine that only behaves: right messages, made-up figures. For component tests and the development page; never part of the product. */
import type { TokenizerFiles } from '../../data/types.ts'
import type { EtudeError } from '../../errors.ts'
import { toWire } from '../../errors.ts'
import type { RunStatus, EngineCommand, EngineEvent, ModelInfo, Replies, RunSummary } from '../../worker/protocol.ts'
import type { WorkerPort } from '../../worker/client.ts'

type Start = Extract<EngineCommand, { type: 'start' }>
type Of<K extends EngineCommand['type']> = Extract<EngineCommand, { type: K }>
interface Run {
  summary: { -readonly [K in keyof RunSummary]: RunSummary[K] }
  timer: ReturnType<typeof setTimeout> | undefined
}

export interface FakeSettings {
  readonly tokenizer: TokenizerFiles | null
  readonly chatTemplate: string | null
  /** ms of a step. */
  readonly stepMs: number
  /** ms in which weights are loaded. */
  readonly loadMs: number
  readonly gpu: boolean
  /** Failure per request type. */
  readonly fail: Partial<Record<EngineCommand['type'], EtudeError>>
  /** Step at which a run breaks; 0 is never. */
  readonly breakAt: number
  readonly refuse: EtudeError | null
  readonly stored: readonly RunSummary[]
}
export const FAKE: FakeSettings = {
  tokenizer: null,
  chatTemplate: null,
  stepMs: 30,
  loadMs: 600,
  gpu: true,
  fail: {},
  breakAt: 0,
  refuse: null,
  stored: [],
}

export class FakeEngine implements WorkerPort {
  readonly #listeners: ((e: Event) => void)[] = []
  readonly #cancelled = new Set<number>()
  readonly #runs = new Map<string, Run>()
  #downloads: Replies['list-downloads'] = [
    { repo: 'HuggingFaceTB/SmolLM2-135M-Instruct', bytes: 271e6, complete: true },
    { repo: 'Qwen/Qwen2.5-0.5B', bytes: 412e6, complete: false },
  ]
  constructor(readonly settings: FakeSettings = FAKE) {
    for (const s of settings.stored) this.#runs.set(s.runId, { summary: { ...s }, timer: undefined })
  }

  addEventListener(type: string, listener: (e: Event) => void): void {
    if (type === 'message') this.#listeners.push(listener)
  }
  terminate(): void {
    for (const r of this.#runs.values()) clearTimeout(r.timer)
  }
  postMessage(message: unknown): void {
    const command = message as EngineCommand
    if (command.type === 'cancel') {
      this.#cancelled.add(command.id)
      return
    }
    const failure = this.settings.fail[command.type]
    if (failure) {
      this.#later(() => {
        this.#say({ type: 'error', id: command.id, runId: null, error: toWire(failure) })
      })
      return
    }
    void this.#handle(command)
  }

  #say(data: EngineEvent): void {
    for (const l of this.#listeners) l(new MessageEvent('message', { data }))
  }
  #later(f: () => void, ms = 30): void {
    setTimeout(f, ms)
  }
  #reply<K extends keyof Replies>(c: Of<K>, to: K, value: Replies[K]): void {
    this.#later(() => {
      this.#say({ type: 'reply', id: (c as { id: number }).id, to, value } as EngineEvent)
    })
  }

  async #handle(c: EngineCommand): Promise<void> {
    switch (c.type) {
      case 'init':
        if (this.settings.gpu)
          this.#reply(c, 'init', {
            vendor: 'apple',
            architecture: 'metal-3',
            description: 'Apple M2',
            software: false,
            f16: true,
            subgroups: { min: 4, max: 64 },
            matrix: null,
            dot: false,
            maxBufferSize: 4 * 2 ** 30,
            maxStorageBufferBindingSize: 2 ** 30,
            notes: [],
            tuned: { classes: 9, ms: 1400 },
          })
        else
          this.#say({
            type: 'error',
            id: c.id,
            runId: null,
            error: {
              name: 'GpuError',
              message: '',
              what: 'This browser has no WebGPU',
              why: 'Training runs on the GPU',
              fix: 'Open this page in Chrome or Edge 137 or later.',
            },
          })
        return
      case 'load-model':
        for (let i = 1; i <= 10; i++) {
          await new Promise((r) => setTimeout(r, c.spec.kind === 'starter' ? 20 : 250))
          if (this.#cancelled.has(c.id)) {
            this.#say({ type: 'error', id: c.id, runId: null, error: { name: 'AbortError', message: 'cancelled', what: 'cancelled' } })
            return
          }
          this.#say({
            type: 'progress',
            id: c.id,
            label: 'Reading model.safetensors',
            done: i * 9_800_000,
            total: 98_000_000,
            unit: 'bytes',
          })
        }
        this.#reply(c, 'load-model', this.#model(c.spec.kind))
        return
      case 'plan':
        if (c.probe && !(await this.#loads(c.id))) return
        this.#reply(c, 'plan', {
          memory: {
            weights: 158e6,
            adapter: 20e6,
            optimizer: 20e6,
            activations: 16.5e6 * c.config.run.batch,
            head: 7e6,
            samples: 24e6,
            total: 229e6 + 16.5e6 * c.config.run.batch,
          },
          trainable: c.config.method === 'ia3' ? 57_600 : 2_442_240,
          adapterBytes: 9_768_960,
          dispatches: 661,
          policy: 'fast',
          policies: [
            { policy: 'fast', total: 692e6, dispatches: 661, arithmetic: 1, checkpointEvery: null },
            { policy: 'lean', total: 310e6, dispatches: 910, arithmetic: 1.35, checkpointEvery: 2 },
          ],
          submits: 1,
          tokensPerStep: c.config.run.batch * c.config.run.seq * c.config.run.accum,
          msPerStep: c.probe ? 264 : null,
          refusal: this.settings.refuse ? toWire(this.settings.refuse) : null,
        })
        return
      case 'start':
        if (await this.#loads(c.id)) this.#start(c)
        return
      case 'restore': {
        const run = this.#runs.get(c.runId)
        if (!(await this.#loads(c.id))) return
        if (run) this.#reply(c, 'restore', run.summary)
        return
      }
      case 'pause':
        this.#reply(c, 'pause', null)
        this.#halt(c.runId, 'paused')
        return
      case 'stop':
        this.#reply(c, 'stop', null)
        this.#halt(c.runId, 'stopped')
        return
      case 'resume':
        this.#reply(c, 'resume', null)
        this.#go(c.runId)
        return
      case 'step':
        this.#reply(c, 'step', null)
        this.#step(c.runId)
        this.#halt(c.runId, 'paused')
        return
      case 'checkpoint':
        this.#reply(c, 'checkpoint', null)
        return
      case 'list-runs':
        this.#reply(
          c,
          'list-runs',
          [...this.#runs.values()].map((r) => r.summary),
        )
        return
      case 'delete-run':
        this.#runs.delete(c.runId)
        this.#reply(c, 'delete-run', null)
        return
      case 'generate':
        if (await this.#loads(c.id)) await this.#generate(c)
        return
      case 'load-adapter':
        this.#reply(c, 'load-adapter', {
          method: 'lora',
          options: { r: 8 },
          trainable: 2_442_240,
          notes: ['Made by PEFT 0.17 for another copy of this model; names and shapes fit.'],
        })
        return
      case 'unload-adapter':
        this.#reply(c, 'unload-adapter', null)
        return
      case 'list-downloads':
        this.#reply(c, 'list-downloads', this.#downloads)
        return
      case 'delete-download':
        this.#downloads = this.#downloads.filter((d) => d.repo !== c.repo)
        this.#reply(c, 'delete-download', null)
        return
      case 'export':
        this.#say({ type: 'progress', id: c.id, label: 'Writing', done: 4, total: 10, unit: 'tensors' })
        await new Promise((r) => setTimeout(r, 500))
        this.#reply(c, 'export', {
          file: { name: `made-up-${c.what}.zip`, blob: new Blob(['made up']) },
          check: { maxAbsDiff: 2.1e-6, prompt: 'Once upon a time' },
        })
        return
      case 'cancel':
        return
    }
  }

  /** Weights on their way to the GPU; false where that was called off. */
  async #loads(id: number): Promise<boolean> {
    for (let i = 1; i <= 10; i++) {
      await new Promise((r) => setTimeout(r, this.settings.loadMs / 10))
      if (this.#cancelled.has(id)) {
        this.#say({ type: 'error', id, runId: null, error: { name: 'AbortError', message: 'cancelled', what: 'cancelled' } })
        return false
      }
      this.#say({ type: 'progress', id, label: 'Loading the weights', done: i * 26_900_000, total: 269_000_000, unit: 'bytes' })
    }
    return true
  }

  #model(kind: string): ModelInfo {
    return {
      name: kind === 'starter' ? 'Etude starter' : 'SmolLM2-135M-Instruct',
      family: 'llama',
      architecture: 'LlamaForCausalLM',
      parameters: 134_515_008,
      fileBytes: 98_000_000,
      storage: 'Q4_1 + Q8_0 + F32',
      layers: 30,
      hiddenSize: 576,
      heads: 9,
      kvHeads: 3,
      vocabSize: 49_152,
      context: 8192,
      chatTemplate: this.settings.chatTemplate,
      tokenizer: this.settings.tokenizer,
      notes: kind === 'starter' ? [] : ['Q6_K tensors were converted to Q8_0: their loss is below 0.001 nats.'],
      linears: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
      bases: [
        { base: 'keep', bytes: 99_000_000 },
        { base: 'nf4', bytes: 86_000_000 },
        { base: 'q8', bytes: 143_000_000 },
        { base: 'f16', bytes: 269_000_000 },
        { base: 'f32', bytes: 538_000_000 },
      ],
      fingerprint: `f-${kind}`,
    }
  }

  #start(c: Start): void {
    this.#runs.set(c.runId, {
      timer: undefined,
      summary: {
        runId: c.runId,
        name: c.name,
        createdAt: new Date().toISOString(),
        modelName: 'Etude starter',
        modelFingerprint: 'f-starter',
        dataName: c.dataName,
        config: c.config,
        extras: c.extras,
        status: 'running',
        step: 0,
        checkpointStep: 0,
        steps: [],
        evals: [],
        samples: [],
        error: null,
      },
    })
    this.#reply(c, 'start', null)
    this.#later(() => {
      this.#look(c.runId, 0)
      if (c.paused) this.#halt(c.runId, 'paused')
      else this.#go(c.runId)
    })
  }
  #status(run: Run, status: RunStatus): void {
    run.summary.status = status
    const { runId, step, checkpointStep } = run.summary
    this.#say({ type: 'run-status', runId, status, step, checkpointStep, allocatedBytes: 268e6 })
  }
  #halt(runId: string, status: RunStatus): void {
    const run = this.#runs.get(runId)
    if (!run) return
    clearTimeout(run.timer)
    run.summary.checkpointStep = run.summary.step
    this.#later(() => {
      this.#status(run, status)
    })
  }
  #go(runId: string): void {
    const run = this.#runs.get(runId)
    if (!run) return
    this.#later(() => {
      this.#status(run, 'running')
    })
    const next = (): void => {
      if (!this.#step(runId)) return
      run.timer = setTimeout(next, this.settings.stepMs)
    }
    run.timer = setTimeout(next, 60)
  }
  /** One step; false at the end. */
  #step(runId: string): boolean {
    const run = this.#runs.get(runId)
    if (!run) return false
    const s = run.summary
    s.step++
    if (s.step === this.settings.breakAt) {
      this.#say({
        type: 'error',
        id: null,
        runId,
        error: {
          name: 'RunError',
          message: '',
          what: `The loss became NaN at step ${s.step}`,
          where: 'row 37 of the training data, model.layers.2.mlp',
          why: 'Weights after this step would be lost',
          fix: 'Lower the learning rate: 3e-4 is a third of what was used.',
        },
      })
      return false
    }
    const noise = Math.sin(s.step * 12.9898) * 0.22 + Math.sin(s.step * 4.1) * 0.1
    const record = {
      step: s.step,
      loss: 3.35 + 1.15 * Math.exp(-s.step / 38) + noise,
      grad_norm: 1.2 + noise,
      lr: s.config.run.lr,
      tokens: 320,
      ms: 264 + 20 * noise,
    }
    s.steps = [...s.steps, record]
    this.#say({ type: 'run-step', runId, record })
    const { evalEvery, sampleEvery } = s.extras
    const end = s.step >= s.config.run.steps
    if ((evalEvery > 0 && s.step % evalEvery === 0) || end) this.#eval(runId)
    if ((sampleEvery > 0 && s.step % sampleEvery === 0) || end) this.#look(runId, s.step)
    if (s.extras.checkpointEvery > 0 && s.step % s.extras.checkpointEvery === 0) {
      s.checkpointStep = s.step
      this.#status(run, 'running')
    }
    if (end) this.#halt(runId, 'done')
    return !end
  }
  #eval(runId: string): void {
    const run = this.#runs.get(runId)
    if (!run) return
    const loss = 3.68 + 0.85 * Math.exp(-run.summary.step / 45)
    const record = { step: run.summary.step, loss, perplexity: Math.exp(loss), tokens: 2000 }
    run.summary.evals = [...run.summary.evals, record]
    this.#say({ type: 'run-eval', runId, record, best: true })
  }
  #look(runId: string, step: number): void {
    const run = this.#runs.get(runId)
    if (step === 0) this.#eval(runId)
    for (const prompt of run?.summary.extras.samplePrompts ?? []) {
      const record = { step, prompt, text: TEXTS[Math.min(TEXTS.length - 1, Math.ceil(step / 50))] ?? '' }
      if (run) run.summary.samples = [...run.summary.samples, record]
      this.#say({ type: 'run-sample', runId, record })
    }
  }
  async #generate(c: Of<'generate'>): Promise<void> {
    const words = (c.which === 'base' ? TEXTS[0] : (TEXTS[Math.round(c.scale * 1.5)] ?? TEXTS[3]))?.split(' ') ?? []
    let text = ''
    for (const w of words) {
      await new Promise((r) => setTimeout(r, 40))
      if (this.#cancelled.has(c.id)) break
      text += `${w} `
      this.#say({ type: 'token', id: c.id, text: `${w} ` })
    }
    this.#reply(c, 'generate', {
      text,
      tokens: words.length,
      ms: words.length * 40,
      stopped: this.#cancelled.has(c.id) ? 'cancelled' : 'eos',
    })
  }
}

const TEXTS = [
  'Politeness is the practice of showing respect and consideration for others through words and actions.',
  'The act of being polite; a courteous manner.',
  'The art of saying what one does not mean to one whom one does not like.',
  'The most acceptable hypocrisy.',
]
