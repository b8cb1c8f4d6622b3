/** What holds for every kernel: each variant links, reflects to its declaration and compiles without a message. */
import { describe, expect, test } from 'vitest'
// The package's Node entry is CommonJS under "type": "module" and does not load; its browser module does.
import { WgslReflect } from 'wgsl_reflect/wgsl_reflect.module.js'
import { gpu } from '../../test/gpu.ts'
import { activeBindings, type AnyKernel } from '../gpu/kernel.ts'
import { linkVariant, shaderNames } from '../gpu/shaders.ts'
import { waitFor } from '../gpu/wait.ts'
import * as kernels from './kernels.ts'

const all = Object.values(kernels) as unknown as AnyKernel[]

test('every shader has a kernel and every kernel a shader', () => {
  expect(all.map((k) => k.name).sort()).toEqual([...shaderNames].sort())
})

describe.each(all)('$name', (kernel) => {
  const flagSets = kernel.variants ?? [[], ...(kernel.flags ?? []).map((f) => [f])]
  const applies = kernel.applies ? Object.keys(kernel.applies) : [undefined]
  const required = kernel.subgroups === 'required'
  const modes = required ? [true] : kernel.subgroups ? [true, false] : [false]
  const cases = flagSets.flatMap((flags) => applies.flatMap((apply) => modes.map((subgroups) => ({ flags, apply, subgroups }))))

  test.skipIf(required && gpu.traits.subgroup === 0)(
    'binds at most 8 storage buffers, and its variants link, match the declaration and compile',
    async () => {
      for (const { flags, apply, subgroups } of cases) {
        if (subgroups && gpu.traits.subgroup === 0) continue
        const matrix = flags.some((f) => f.startsWith('matrix_'))
        if (matrix && !gpu.traits.matrix) continue
        const at = `${flags.join('+')} ${apply ?? ''} ${subgroups ? 'subgroups' : ''}`
        const wgsl = await linkVariant(
          { kernel, flags, constants: kernel.constants, apply },
          subgroups,
          subgroups ? gpu.traits.subgroup : 0,
        )
        const module = gpu.device.createShaderModule({ code: wgsl })
        const info = await waitFor(module.getCompilationInfo())
        expect(
          info.messages.map((m) => `${m.type} ${m.lineNum}: ${m.message}`),
          `${at}\n${wgsl}`,
        ).toEqual([])
        // Reflection does not know subgroup matrices; the bindings are those without them.
        if (matrix) continue
        const bindings = activeBindings(kernel, flags)
        // Calls that have become one may bind more: only where the adapter has room for it.
        expect(bindings.length, at).toBeLessThanOrEqual(['two', 'append'].some((f) => flags.includes(f)) ? 10 : 8)
        const [storage, uniform] = new WgslReflect(wgsl).getBindGroups()
        const found = storage.flatMap((b, index) => (b ? [{ name: b.name, index, access: b.access === 'read' ? 'read' : 'write' }] : []))
        expect(found, at).toEqual(bindings)
        expect(
          uniform[0]!.type.members!.map((m) => [m.name, m.type.name]),
          at,
        ).toEqual([...Object.entries(kernel.uniforms), ...(kernel.split ? [['base', 'u32']] : [])])
      }
    },
  )
})
