/** @file Renders conversations with this project's renderer: reads FOLDER/in.json, writes FOLDER/out.json. Part of chat_templates.py. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { renderChat } from '../../src/data/template.ts'
import type { ChatMessage } from '../../src/data/types.ts'

const folder = process.argv[2]
const { now, special, jobs } = JSON.parse(await readFile(join(folder, 'in.json'), 'utf8')) as {
  now: string
  special: { bos_token: string; eos_token: string }
  jobs: { template: string; messages: ChatMessage[] }[]
}
const RealDate = Date
globalThis.Date = class extends RealDate {
  constructor() {
    super(now)
  }
} as DateConstructor
const out = jobs.map(({ template, messages }) => {
  try {
    return [false, true].map((addGenerationPrompt) => renderChat(template, messages, { ...special, addGenerationPrompt, tools: null }))
  } catch (e) {
    return e instanceof Error ? e.message : String(e)
  }
})
await writeFile(join(folder, 'out.json'), JSON.stringify(out))
