/** @file Trains every registered method, in every variant of its options, for a few steps and writes what it exports: `node scripts/run.mjs
 * test/golden/check_exports.ts MODEL OUT`. Each goes to OUT/<n>/adapter and OUT/<n>/merged; OUT/cases.json says which it is and the logits after IDS.
 * Part of check_exports.py. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { NODE_GPU } from '../../src/cli/gpu.ts'
import { saveFiles } from '../../src/cli/save.ts'
import { BatchSource } from '../../src/data/collate.ts'
import type { TokenRows } from '../../src/data/types.ts'
import { openModel } from '../../src/io/model_files.ts'
import { readPath } from '../../src/io/node_source.ts'
import { defaults } from '../../src/options.ts'
import { METHODS } from '../../src/peft/registry.ts'
import { openBundle } from '../../src/train/bundle.ts'
import { adapterFiles, modelFiles } from '../../src/train/export.ts'
import { Generator } from '../../src/train/generator.ts'
import { RUN_OPTIONS } from '../../src/train/run_config.ts'
import { Trainer } from '../../src/train/trainer.ts'
import { TunableLayout } from '../../src/train/tunable.ts'
import { variantsOf } from '../method_variants.ts'

const STEPS = 4
const [model, out] = process.argv.slice(2)
if (!model || !out) throw new Error('usage: check_exports.ts MODEL OUT')
const bundle = openBundle(await openModel(await readPath(model)))
const vocab = bundle.config.vocabSize
const ids = [1, 7, 19, 4, 33, 60, 5, 12, 21].map((id) => id % vocab)
const [count, length] = [8, 24]
const rows: TokenRows = {
  ids: Int32Array.from({ length: count * length }, (_, i) => (3 + ((Math.floor(i / length) * 5 + 7 * (i % length)) % 50)) % vocab),
  labels: new Int32Array(count * length),
  offsets: Uint32Array.from({ length: count + 1 }, (_, i) => i * length),
}
rows.labels.set(rows.ids)

const gpu = await NODE_GPU.open()
const cases: unknown[] = []
for (const method of METHODS.values())
  for (const options of variantsOf(method.options)) {
    const run = { ...defaults(RUN_OPTIONS), seq: length, lr: method.slot === 'weights' ? 1e-3 : 1e-2, steps: STEPS }
    const t = new TunableLayout(bundle, method, options, { base: 'f32', seed: 0, trainable: true, maxBindingSize: gpu.traits.maxBindingSize })
    await t.fill(gpu)
    const trainer = await Trainer.create(gpu, t, run)
    const source = new BatchSource(rows, { ...run, accum: 1 })
    for (let i = 0; i < STEPS; i++) await trainer.step(source.step(), rows)
    const generator = await Generator.create(gpu, t, { capacity: ids.length + (t.adapter?.virtualTokens ?? 0) })
    const logits = Array.from(await generator.logits(ids))
    const folder = join(out, String(cases.length))
    const state = await t.trained!.read()
    const o = { baseModel: bundle.files.name, manifest: null }
    const write = async (name: string, items: Parameters<typeof saveFiles>[1]): Promise<string> => {
      await mkdir(join(folder, name), { recursive: true })
      await saveFiles(join(folder, name), items)
      return join(folder, name)
    }
    const adapter = t.adapter ? await write('adapter', await adapterFiles(t.adapter, state, { ...o, seed: 0 })) : null
    const merged = method.merges ? await write('merged', modelFiles(bundle, t.adapter ? { adapter: t.adapter, state } : { trained: state }, o)) : null
    cases.push({ method: method.id, options, adapter, merged, logits })
    generator.destroy()
    trainer.destroy()
    t.destroy()
  }
await writeFile(join(out, 'cases.json'), JSON.stringify({ ids, cases }))
NODE_GPU.close(gpu)
process.exit(0)
