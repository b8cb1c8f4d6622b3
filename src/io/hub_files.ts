/** @file What to ask the Hugging Face hub for: names of repositories and revisions, and which of a repository's files a model needs. Pure. */
import { FileError } from '../errors.ts'
import { field, isObject } from './json.ts'

export interface HubId {
  /** "owner/name", or an old "name". */
  readonly repo: string
  /** Branch, tag or commit. */
  readonly revision: string
  /** Part of the name of the GGUF file that is meant ("Q4_1"), or null. */
  readonly pick: string | null
}
export interface HubFile {
  readonly name: string
  /** Bytes. */
  readonly size: number
}

export const HUB_ORIGIN = 'https://huggingface.co'
const PART = /^(?!.*(--|\.\.))[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$/
const REVISION = /^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,63}$/
const PICK = /^[A-Za-z0-9_.-]{1,60}$/

/**
 * What a person typed: "owner/name", "owner/name@revision", "owner/name:Q4_1" (one of several GGUF files), or the address of a model's page.
 * @throws FileError for anything else.
 */
export function parseHubId(text: string, revision = 'main'): HubId {
  let rest = text.trim()
  if (rest.startsWith(`${HUB_ORIGIN}/`))
    rest = rest
      .slice(HUB_ORIGIN.length + 1)
      .replace(/\/tree\/([^/?#]+)\/?$/, '@$1')
      .replace(/\/$/, '')
  const [, repo = '', at, pick = null] = /^([^@:]*)(?:@([^@:]*))?(?::([^@:]*))?$/.exec(rest) ?? []
  const rev = at ?? revision
  const parts = repo.split('/')
  const ok =
    parts.length <= 2 && parts.every((p) => PART.test(p) && !/\.git$/.test(p)) && REVISION.test(rev) && (pick === null || PICK.test(pick))
  if (ok) return { repo, revision: rev, pick }
  throw new FileError(`${JSON.stringify(text.slice(0, 200))} is no model on the hub`, {
    fix: 'Write owner/name, for instance HuggingFaceTB/SmolLM2-135M-Instruct; @revision and :part-of-a-GGUF-name may follow',
  })
}

const TEXTS = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
  'model.safetensors.index.json',
])
/** Only plain names at the top of a repository: a name with a slash never becomes a file here. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,149}$/
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/

/** Commit and files from the hub's answer to /api/models/…; names that are not plain, and entries without a size, are left out. @throws FileError. */
export function parseListing(answer: unknown, repo: string): { readonly commit: string; readonly files: readonly HubFile[] } {
  const commit = isObject(answer) ? field(answer, 'sha') : undefined
  const siblings = isObject(answer) ? field(answer, 'siblings') : undefined
  if (typeof commit !== 'string' || !/^[0-9a-f]{40}$/.test(commit) || !Array.isArray(siblings)) {
    throw new FileError('The hub’s answer has no list of files', {
      where: repo,
      why: 'It may be changed on its way, by a proxy for instance',
      fix: 'Try again later',
    })
  }
  const files = new Map<string, HubFile>()
  for (const s of siblings as unknown[]) {
    const name = isObject(s) ? field(s, 'rfilename') : undefined
    const size = isObject(s) ? field(s, 'size') : undefined
    if (typeof name === 'string' && NAME.test(name) && Number.isSafeInteger(size) && Number(size) >= 0)
      files.set(name, { name, size: Number(size) })
  }
  return { commit, files: [...files.values()] }
}

function pickGguf(ggufs: readonly HubFile[], { repo, pick }: HubId): HubFile {
  const found = pick === null ? ggufs : ggufs.filter((f) => f.name.toLowerCase().includes(pick.toLowerCase()))
  if (found.length === 1) return found[0]
  const names = (found.length ? found : ggufs).map((f) => f.name).sort()
  const example = /(I?Q\d\w*|F16|BF16|F32)/i.exec(names[0])?.[0] ?? names[0]
  throw new FileError(
    found.length ? `It has ${found.length} GGUF files that could be meant` : `No GGUF file there has "${String(pick)}" in its name`,
    {
      where: repo,
      why: `They are ${names.slice(0, 20).join(', ')}`,
      fix: `Write which one, for instance ${repo}:${example}`,
    },
  )
}

/**
 * The files a model needs: its configuration, tokenizer and weights. Never pickles (.bin, .pt) and never code.
 * @throws FileError where there are no weights that can be read, or it is not clear which are meant.
 */
export function pickFiles(files: readonly HubFile[], id: HubId): readonly HubFile[] {
  const texts = files.filter((f) => TEXTS.has(f.name))
  const has = (name: string): HubFile | undefined => files.find((f) => f.name === name)
  const tensors = files.filter((f) => f.name.endsWith('.safetensors'))
  const ggufs = files.filter((f) => f.name.toLowerCase().endsWith('.gguf'))
  if (id.pick !== null) return [pickGguf(ggufs, id)]
  const whole = has('model.safetensors')
  const rest = texts.filter((f) => f.name !== 'model.safetensors.index.json')
  if (whole && has('config.json')) return [...rest, whole]
  if (has('model.safetensors.index.json') && has('config.json')) return [...texts, ...tensors.filter((f) => SHARD.test(f.name))]
  if (tensors.length === 1 && has('config.json')) return [...rest, tensors[0]]
  if (ggufs.length) return [pickGguf(ggufs, id)]
  const pickle = files.some((f) => /\.(bin|pt|pth|h5|msgpack)$/.test(f.name))
  throw new FileError(has('adapter_config.json') ? 'This is an adapter, not a model' : 'It has no weights that can be read', {
    where: id.repo,
    why: pickle
      ? 'Its weights are in a format that can hold code (.bin, .pt …)'
      : 'A model needs config.json and .safetensors files, or one .gguf file',
    fix: pickle ? 'Look for a version with safetensors, or convert it with save_pretrained' : 'Choose another repository',
  })
}
