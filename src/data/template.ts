/** @file Chat templates: a conversation to the text the model was made for. Equals Transformers' `apply_chat_template(tokenize=False)`. */
import { Environment, Interpreter, Template } from '@huggingface/jinja'
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

const MONTHS = 'January February March April May June July August September October November December'.split(' ')
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** Python's datetime.now().strftime in the C locale: dates in a prompt are English wherever the browser is. A directive that is not known stays as it is. */
function strftimeNow(format: string): string {
  const now = new Date()
  const pad = (n: number, width = 2): string => String(n).padStart(width, '0')
  const [year, month, day] = [now.getFullYear(), now.getMonth(), now.getDate()]
  const directives: Readonly<Record<string, () => string>> = {
    Y: () => pad(year, 4),
    y: () => pad(year % 100),
    m: () => pad(month + 1),
    B: () => MONTHS[month],
    b: () => MONTHS[month].slice(0, 3),
    d: () => pad(day),
    A: () => DAYS[now.getDay()],
    a: () => DAYS[now.getDay()].slice(0, 3),
    j: () => pad(Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 0)) / 86_400_000), 3),
    H: () => pad(now.getHours()),
    I: () => pad(now.getHours() % 12 || 12),
    p: () => (now.getHours() < 12 ? 'AM' : 'PM'),
    M: () => pad(now.getMinutes()),
    S: () => pad(now.getSeconds()),
    '%': () => '%',
  }
  return format.replace(/%(.)/g, (all, d: string) => directives[d]?.() ?? all)
}

/** Names that a template may use beside its context. As the library's own, which do not let a date be English everywhere. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new Error(String(message))
  },
  range: (first: number, second?: number, step = 1): number[] => {
    const [start, stop] = second === undefined ? [0, first] : [first, second]
    return step === 0 ? [] : Array.from({ length: Math.max(0, Math.ceil((stop - start) / step)) }, (_, i) => start + i * step)
  },
  strftime_now: strftimeNow,
}

function run(template: Template, context: Readonly<Record<string, unknown>>): string {
  const environment = new Environment()
  for (const [name, value] of Object.entries({ ...GLOBALS, ...context })) environment.set(name, value)
  const { value } = new Interpreter(environment).run(template.parsed)
  return typeof value === 'string' ? value : ''
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
    return run(template, { ...tokens, messages, tools, documents: null, add_generation_prompt: addGenerationPrompt })
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
