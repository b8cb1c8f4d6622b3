/** @file The bench's rows as Markdown tables, for the terminal. */

const line = (cells) => `| ${cells.join(' | ')} |`
const render = (head, body) => (body.length === 0 ? null : [line(head), line(head.map(() => '---')), ...body.map(line)].join('\n'))
const bytes = (n) => (n === null ? '' : `${(n / 1e6).toFixed(1)} MB`)
const whole = (n) => (n === null || n === undefined ? '' : String(n))
const fixed = (n, digits) => (n === undefined || n === null ? '' : n.toFixed(digits))
const percent = (n) => (n === undefined ? '' : `${n.toFixed(0)} %`)

const COUNTS = ['dispatches', 'submits', 'planned', 'allocated']
const counts = (r) => [whole(r.dispatches), whole(r.submits), bytes(r.planned_bytes), bytes(r.allocated_bytes)]

/** Training steps and the forward pass of the bench model, an engine a row. */
function steps(rows) {
  const head = ['case', 'engine', 'ms', 'rounds', 'tokens/s', 'GFLOP/s', 'of peak', ...COUNTS, 'first loss']
  const cells = (r) => [
    r.case,
    r.engine,
    r.ms.toFixed(1),
    whole(r.rounds),
    r.tokens_per_s.toFixed(0),
    fixed(r.gflops, 1),
    percent(r.percent_of_peak),
    ...counts(r),
    r.first_loss.toFixed(5),
  ]
  return render(head, rows.map(cells))
}

/** Steps of one engine at many sizes. */
function sized(rows) {
  const head = ['case', 'base', 'policy', 'rows x tokens', 'rank', 'ms', 'rounds', 'tokens/s', 'GFLOP', 'GFLOP/s', 'of peak']
  const cells = (r) => [
    r.weights
      ? `${r.case}${r.engine === 'etude' ? '' : ` by ${r.engine}`} (${r.weights} weights)`
      : r.model
        ? `${r.case}, ${r.model}`
        : r.case,
    r.base,
    r.policy ?? '',
    `${r.batch}x${r.seq}`,
    whole(r.rank),
    r.ms > 0 ? r.ms.toFixed(0) : '',
    r.ms > 0 ? whole(r.rounds) : '',
    fixed(r.tokens_per_s, 0),
    fixed(r.gflop, 1),
    fixed(r.gflops, 1),
    percent(r.percent_of_peak),
    ...counts(r),
  ]
  return render([...head, ...COUNTS], rows.map(cells))
}

/** What a kernel was given. */
function kernelName(r) {
  const what = [r.case, r.pass].filter(Boolean).join(' ')
  if (r.case === 'matmul') return `${what} ${r.layout} ${r.m}x${r.n}x${r.k} ${r.dtype}`
  if (r.heads !== undefined) return `${what}, ${r.seq} tokens, ${r.heads} heads on ${r.kv_heads} of ${r.head_dim}`
  return [what, [r.m, r.n].filter((n) => n !== undefined).join('x')].filter(Boolean).join(' ')
}

/** Everything else: rates. */
function rates(rows) {
  const cells = (r) => [
    r.by ? `${kernelName(r)} (${r.by})` : kernelName(r),
    r.engine,
    r.ms.toFixed(3),
    whole(r.rounds),
    fixed(r.gflops, 1),
    fixed(r.gb_per_s, 1),
    percent(r.percent_of_peak),
  ]
  return render(['case', 'engine', 'ms', 'rounds', 'GFLOP/s', 'GB/s', 'of peak'], rows.map(cells))
}

/** What the device was tuned to, and what is switched off because it gets it wrong. */
function tuning(row) {
  if (!row) return null
  const choices = Object.entries(row.choices).map(([name, choice]) => `${name}: ${choice}`)
  return [...(choices.length > 0 ? [`Tuned in ${row.ms.toFixed(0)} ms: ${choices.join('; ')}.`] : []), ...row.notes].join('\n')
}

/** Etude against the faster peer in each case, and each engine's LoRA step against its full step. */
function comparisons(rows) {
  const ms = (name, engine) => rows.find((r) => r.case === name && r.engine === engine)?.ms
  const lines = []
  for (const name of new Set(rows.map((r) => r.case))) {
    const peers = rows.filter((r) => r.case === name && r.engine !== 'etude')
    const fastest = peers.toSorted((a, b) => a.ms - b.ms)[0]
    if (fastest && ms(name, 'etude'))
      lines.push(`${name}: etude is ${(fastest.ms / ms(name, 'etude')).toFixed(2)} times as fast as ${fastest.engine}.`)
  }
  for (const engine of new Set(rows.map((r) => r.engine))) {
    const ratio = ms('lora-step', engine) / ms('full-step', engine)
    if (ratio) lines.push(`${engine}: LoRA step / full step = ${ratio.toFixed(2)}.`)
  }
  return lines.length > 0 ? lines.join('\n') : null
}

/** @param rows of bench/report.ts. */
export function benchTables(rows) {
  const step = rows.filter((r) => /^((lora|full)-step|forward)$/.test(r.case))
  const grown = rows.filter((r) => r.batch !== undefined)
  const prepared = rows.find((r) => r.case === 'tuning')
  const rest = rows.filter((r) => !step.includes(r) && !grown.includes(r) && r !== prepared)
  return [tuning(prepared), rates(rest), steps(step), comparisons(step), sized(grown)].filter(Boolean).join('\n\n')
}
