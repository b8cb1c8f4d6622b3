/** @file The handle by which a run is paused, stepped, resumed and stopped. Commands may come at any time; the run looks between two steps. */

/** What a run is to do next. `wait`: it is paused, `changed` tells when to look again. */
export type Command = 'step' | 'checkpoint' | 'stop' | 'wait'

export class RunControl {
  #mode: 'running' | 'paused' | 'stopped'
  #credits = 0
  #checkpoint = false
  #wake: () => void = () => undefined

  /** @param paused wait before the first step. */
  constructor(paused = false) {
    this.#mode = paused ? 'paused' : 'running'
  }

  get stopped(): boolean {
    return this.#mode === 'stopped'
  }
  /** Wait after the step that is being computed. */
  pause(): void {
    this.#set('paused')
  }
  resume(): void {
    this.#set('running')
  }
  /** Do one step and wait again; several calls do as many. */
  step(): void {
    this.#set('paused')
    this.#credits++
  }
  /** End after the step that is being computed; what is trained is kept. Cannot be taken back. */
  stop(): void {
    this.#set('stopped')
  }
  /** Store a checkpoint before the next step, also while paused. */
  checkpoint(): void {
    this.#checkpoint = true
    this.#wake()
  }

  #set(mode: 'running' | 'paused' | 'stopped'): void {
    if (this.#mode === 'stopped') return
    this.#mode = mode
    if (mode === 'running') this.#credits = 0
    this.#wake()
  }

  /** Take the next command. */
  next(): Command {
    if (this.#mode === 'stopped') return 'stop'
    if (this.#checkpoint) {
      this.#checkpoint = false
      return 'checkpoint'
    }
    if (this.#mode === 'running') return 'step'
    if (this.#credits === 0) return 'wait'
    this.#credits--
    return 'step'
  }

  /** Resolves when a command comes, or has come since `next`. Rejects with the signal's reason when it fires. */
  changed(signal?: AbortSignal): Promise<void> {
    if (this.#mode !== 'paused' || this.#credits > 0 || this.#checkpoint) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        reject(signal?.reason as Error)
      }
      if (signal?.aborted) {
        abort()
        return
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.#wake = () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      }
    })
  }
}
