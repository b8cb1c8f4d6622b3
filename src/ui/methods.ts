/** @file What the page knows of the method registry: its declarations, never its mathematics. The one place that names the registry. */
import { METHODS as REGISTRY } from '../peft/registry.ts'
import type { Options } from '../options.ts'
import type { RunOptions } from '../train/run_config.ts'

/** The declarative half of a method. */
export interface MethodDeclaration {
  readonly id: string
  readonly title: string
  /** One line: what it trains. */
  readonly summary: string
  readonly paper: { readonly cite: string; readonly url: string }
  readonly options: Options
  /** Defaults of run options that differ for this method (learning rate …). */
  readonly runDefaults: Partial<RunOptions>
  /** Its learning rate falls with the model's width. */
  readonly rateByWidth: boolean
  /** Where it acts. Only what is added to linear layers has a strength between off and on. */
  readonly slot: 'linear' | 'input' | 'weights'
  /** The tuned weights can be folded into the model's own. */
  readonly merges: boolean
}

export const METHODS: ReadonlyMap<string, MethodDeclaration> = REGISTRY
