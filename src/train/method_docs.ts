/** @file docs/methods.md, from the registry: one section a method, with what it trains, its source and its options. */
import { accepts, type Option } from '../options.ts'
import { METHODS } from '../peft/registry.ts'

const cell = (s: string): string => s.replaceAll('|', '\\|')
const value = (o: Option): string => (o.kind === 'names' ? o.default.join(',') : String(o.default))

/** The page's Markdown. */
export function methodsPage(): string {
  const sections = [...METHODS.values()].map((m) => {
    const options = Object.entries(m.options).map(([name, o]) => `| \`${name}\` | ${value(o)} | ${accepts(o)} | ${cell(o.help)} |`)
    const run = Object.entries(m.runDefaults).map(([k, v]) => `\`${k}\` ${v}`)
    return [
      `## ${m.title} (\`${m.id}\`)`,
      '',
      m.summary,
      '',
      `Source: [${m.paper.cite}](${m.paper.url}). ${m.merges ? 'Can be merged into the weights.' : 'Cannot be merged into the weights.'}${m.slot === 'weights' ? ' Exports a whole model.' : ` PEFT type \`${m.peftType}\`.`}${run.length > 0 ? ` Starts from ${run.join(', ')}${m.rateByWidth ? ' (the rate is for a model of width 576 and falls with the width)' : ''}.` : ''}`,
      '',
      ...(options.length > 0
        ? ['| option | default | takes | meaning |', '|---|---|---|---|', ...options, '']
        : ['It has no options of its own.', '']),
    ].join('\n')
  })
  return [
    '# Methods',
    '',
    'Generated from `src/peft/registry.ts` by `npm run docs`; a test holds it to the registry.',
    '',
    ...sections,
  ].join('\n')
}
