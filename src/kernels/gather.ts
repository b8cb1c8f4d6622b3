import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'
import { SCALES_BINDING, WEIGHT_FLAGS } from './weight_formats.ts'

/** out[i] = scale · w[ids[i] - first] where that row is among the table_rows rows bound; other rows are left alone, or zero (flag `zero`).
 * Flag `prompt`: sequences of `tokens` ids are each preceded by the prompt_rows rows of `prompt`. Flag `add`: out +=. width in vec4s. */
export const gatherKernel = defineKernel({
  name: 'gather',
  bindings: {
    ids: 'read',
    w: 'read',
    scales: SCALES_BINDING,
    prompt: { access: 'read', when: ['prompt'] },
    out: 'write',
  },
  uniforms: { rows: 'u32', width: 'u32', first: 'u32', table_rows: 'u32', prompt_rows: 'u32', tokens: 'u32', scale: 'f32' },
  flags: [...WEIGHT_FLAGS, 'prompt', 'zero', 'add'],
  variants: [...WEIGHT_FLAGS.flatMap((w) => [[w], [w, 'zero'], [w, 'prompt', 'zero'], [w, 'prompt']] as const), ['w_f32', 'add']],
  constants: { WORKGROUP: 64 },
  grid: ({ rows, width }, { WORKGROUP }) => grid1d(ceilDiv(rows * width, WORKGROUP)),
})

/** out[ids[i] - first] += scale · dy[i]: the gradient of `gatherKernel`, without atomics. A lane owns four columns of the ids in its bucket
 * (id mod buckets) and goes through all ids in order, so the sum is always the same. The id `skip` adds nothing. Rows of dy are laid out as the gather wrote them. */
export const scatterAddKernel = defineKernel({
  name: 'scatter_add',
  bindings: { ids: 'read', dy: 'read', out: 'write' },
  uniforms: {
    count: 'u32',
    width: 'u32',
    first: 'u32',
    table_rows: 'u32',
    prompt_rows: 'u32',
    tokens: 'u32',
    scale: 'f32',
    buckets: 'u32',
    skip: 'u32',
  },
  constants: { WORKGROUP: 64 },
  grid: ({ width, buckets }, { WORKGROUP }) => [ceilDiv(width, WORKGROUP), buckets],
})

/** Sets `len` vec4s to a value. */
export const fillKernel = defineKernel({
  name: 'fill',
  bindings: { out: 'write' },
  uniforms: { len: 'u32', value: 'f32' },
  constants: { WORKGROUP: 64 },
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})
