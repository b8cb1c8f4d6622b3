/** @file The methods by id. To add one: a file beside this one, its test, and its line here. */
import { dora } from './dora.ts'
import { full } from './full.ts'
import { ia3 } from './ia3.ts'
import { lora } from './lora.ts'
import type { AnyMethod } from './method.ts'
import { promptTuning } from './prompt_tuning.ts'

export const METHODS: ReadonlyMap<string, AnyMethod> = new Map([lora, dora, ia3, promptTuning, full].map((m: AnyMethod) => [m.id, m]))
