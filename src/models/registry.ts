/** @file The model families. To add one: a file beside this one, its test, and its line here. */
import { ModelError } from '../errors.ts'
import type { Json, ModelFamily } from './family.ts'
import { gemma2 } from './gemma2.ts'
import { gemma3 } from './gemma3.ts'
import { gpt2 } from './gpt2.ts'
import { llama } from './llama.ts'
import { opt } from './opt.ts'
import { phi3 } from './phi3.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

export const FAMILIES: readonly ModelFamily[] = [llama, qwen2, qwen3, phi3, gemma2, gemma3, gpt2, opt]

const supported = (): string => FAMILIES.map((f) => `${f.title} (${f.architectures.join(', ')})`).join(', ')
const unknown = (what: string, where: string): ModelError =>
  new ModelError(what, { where, why: 'the order of its computations is not known here', fix: `Use a model of one of: ${supported()}` })

/** The family of a config.json, by `architectures`, else by `model_type`. */
export function familyOf(config: Json): ModelFamily {
  const architectures = Array.isArray(config.architectures) ? config.architectures.map(String) : []
  const family =
    FAMILIES.find((f) => f.architectures.some((a) => architectures.includes(a))) ??
    (architectures.length === 0 ? FAMILIES.find((f) => f.modelTypes.includes(String(config.model_type))) : undefined)
  if (!family)
    throw unknown(`the architecture ${architectures[0] ?? JSON.stringify(config.model_type ?? null)} is not supported`, 'config.json')
  return family
}

/** The family of a GGUF file, by `general.architecture`. */
export function familyOfGguf(architecture: unknown): ModelFamily {
  const family = FAMILIES.find((f) => f.gguf.includes(String(architecture)))
  if (!family) throw unknown(`the GGUF architecture ${JSON.stringify(architecture ?? null)} is not supported`, 'general.architecture')
  return family
}
