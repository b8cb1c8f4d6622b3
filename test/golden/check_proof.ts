/** @file Held-out rows as the studio sees them, and logits after some of their prompts with an adapter on: `node scripts/run.mjs test/golden/check_proof.ts MODEL ROWS
 * ADAPTER SEQ OUT.json`. Part of check_proof.py, which compares with PEFT. */
import { writeFileSync } from 'node:fs'
import { SPLIT } from '../../bench/proof_rows.ts'
import { NODE_GPU } from '../../src/cli/gpu.ts'
import { buildDataset } from '../../src/data/dataset.ts'
import { DEFAULT_DATA_OPTIONS } from '../../src/data/report.ts'
import { loadTokenizer } from '../../src/data/tokenizer.ts'
import { rowCount } from '../../src/data/types.ts'
import { readAdapter } from '../../src/io/adapter_files.ts'
import { openModel } from '../../src/io/model_files.ts'
import { fromPath, readPath } from '../../src/io/node_source.ts'
import { openBundle } from '../../src/train/bundle.ts'
import { Generator } from '../../src/train/generator.ts'
import { openAdapter, TunableLayout } from '../../src/train/tunable.ts'

const PROMPTS = 8
const [model, file, adapter, seq, out] = process.argv.slice(2)
if (!out) throw new Error('usage: check_proof.ts MODEL ROWS ADAPTER SEQ OUT.json')
const bundle = openBundle(await openModel(await readPath(model), model))
const options = { ...DEFAULT_DATA_OPTIONS, evalFraction: SPLIT.fraction, seed: SPLIT.seed, vocabSize: bundle.config.vocabSize }
const { held } = await buildDataset([await fromPath(file)], loadTokenizer(bundle.files.tokenizer!), options)
if (!held) throw new Error(`${file}: no row is held out`)
const rows = Array.from({ length: rowCount(held) }, (_, r) => {
  const [from, to] = [held.offsets[r], Math.min(held.offsets[r + 1], held.offsets[r] + Number(seq))]
  return { ids: Array.from(held.ids.subarray(from, to)), labels: Array.from(held.labels.subarray(from, to)) }
})
const gpu = await NODE_GPU.open()
const loaded = await openAdapter(bundle, await readAdapter(await readPath(adapter)))
const { maxBindingSize } = gpu.traits
const t = new TunableLayout(bundle, loaded.method, loaded.options, { base: 'keep', seed: 0, trainable: false, maxBindingSize }, loaded)
await t.fill(gpu)
const generator = await Generator.create(gpu, t, { capacity: Number(seq) })
const prompts: { ids: number[]; logits: number[] }[] = []
for (const { ids, labels } of rows.slice(0, PROMPTS)) {
  const prompt = ids.slice(0, labels.findIndex((l) => l !== -100))
  prompts.push({ ids: prompt, logits: Array.from(await generator.logits(prompt)) })
}
writeFileSync(out, JSON.stringify({ rows, prompts }))
NODE_GPU.close(gpu)
process.exit(0)
