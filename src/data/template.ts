/** @file Chat templates: a conversation to the text the model was made for. Equals Transformers' `apply_chat_template(tokenize=False)`. */
import { Template } from '@huggingface/jinja'
import { DataError } from '../errors.ts'
import type { ChatMessage } from './types.ts'

export interface TemplateContext {
  /** Text of the special tokens a template may write; '' where the model has none. */
  readonly bos_token: string
  readonly eos_token: string
  readonly pad_token?: string
  /** Append what opens the assistant's next turn. */
  readonly addGenerationPrompt: boolean
  readonly tools: null
  /** File and line, for messages. */
  readonly where?: string
}

const FIX = 'Check the roles and their order, or choose another template'
const compiled = new Map<string, Template>()
const KEPT = 8

/** A parsed template. Throws DataError with Jinja's message where it is not one. */
function compile(source: string): Template {
  const known = compiled.get(source)
  if (known) return known
  try {
    const template = new Template(source)
    if (compiled.size >= KEPT) compiled.clear()
    compiled.set(source, template)
    return template
  } catch (e) {
    throw new DataError(`the chat template is not valid Jinja (${e instanceof Error ? e.message : String(e)})`, {
      where: 'chat template',
      why: 'Conversations cannot be turned into the text the model was made for',
      fix: 'Correct it or choose another template',
    })
  }
}

/** The conversation as text. Throws DataError, naming `where`, with the template's own message where it refuses the messages. */
export function renderChat(source: string, messages: readonly ChatMessage[], context: TemplateContext): string {
  const template = compile(source)
  const { addGenerationPrompt, where, tools, ...tokens } = context
  try {
    return template.render({ ...tokens, messages, tools, documents: null, add_generation_prompt: addGenerationPrompt })
  } catch (e) {
    throw new DataError(`the chat template refuses these messages (${e instanceof Error ? e.message : String(e)})`, {
      ...(where !== undefined && { where }),
      fix: FIX,
    })
  }
}

/** Templates a person can pick for a model that has none. */
export const BUILTIN_TEMPLATES = {
  chatml:
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  plain:
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token + '\\n' }}" +
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}",
} as const
