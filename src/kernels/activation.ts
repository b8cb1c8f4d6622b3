import { ceilDiv, defineKernel, grid1d } from '../gpu/kernel.ts'

/** erf by Abramowitz & Stegun 7.1.26 (absolute error 1.5e-7). */
const ERF = `fn erf(x: vec4f) -> vec4f {
  let t = 1.0 / (1.0 + 0.3275911 * abs(x));
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-x * x));
}`
/** The argument is clamped because some drivers' tanh overflows; tanh is ±1 in f32 long before. */
const TANH = 'fn inner(x: vec4f) -> vec4f { return tanh(clamp(0.7978845608 * (x + 0.044715 * x * x * x), vec4f(-15.0), vec4f(15.0))); }'

/** An activation f: WGSL bodies of f(x) and f'(x) on vec4f, and what they call. */
const ACTIVATIONS = {
  silu: { helpers: '', f: 'return x / (1.0 + exp(-x));', df: 'let s = 1.0 / (1.0 + exp(-x)); return s * (1.0 + x * (1.0 - s));' },
  gelu_tanh: {
    helpers: TANH,
    f: 'return 0.5 * x * (1.0 + inner(x));',
    df: 'let t = inner(x); return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608 * (1.0 + 0.134145 * x * x);',
  },
  gelu_erf: {
    helpers: ERF,
    f: 'return 0.5 * x * (1.0 + erf(0.7071067812 * x));',
    df: 'return 0.5 * (1.0 + erf(0.7071067812 * x)) + 0.3989422804 * x * exp(-0.5 * x * x);',
  },
  // By comparison, so that NaN stays NaN.
  relu: {
    helpers: '',
    f: 'return select(x, vec4f(0.0), x < vec4f(0.0));',
    df: 'return select(vec4f(0.0), vec4f(1.0), x > vec4f(0.0));',
  },
} as const
export type Activation = keyof typeof ACTIVATIONS
export const ACTIVATION_NAMES = Object.keys(ACTIVATIONS) as Activation[]
/** Defines f and df, vec4f → vec4f, of the activation that a set of flags names. */
export function activationText(flags: ReadonlySet<string>): string {
  const { helpers, f, df } = ACTIVATIONS[ACTIVATION_NAMES.find((a) => flags.has(a))!]
  return `${helpers}\nfn f(x: vec4f) -> vec4f { ${f} }\nfn df(x: vec4f) -> vec4f { ${df} }`
}

/** out = f(x); flag `gated`: x rows are gate | up, out = f(gate) · up. Flag `grad`: out = dL/dx from dy; flag `add`: added to out.
 * One lane takes four elements of dy's shape; len and width (one row of it) are in vec4s. */
export const activationKernel = defineKernel({
  name: 'activation',
  bindings: { x: 'read', dy: { access: 'read', when: ['grad'] }, out: 'write' },
  uniforms: { len: 'u32', width: 'u32' },
  flags: [...ACTIVATION_NAMES, 'gated', 'grad', 'add'],
  variants: ACTIVATION_NAMES.flatMap(
    (a) => [[a], [a, 'grad'], [a, 'grad', 'add'], [a, 'gated'], [a, 'gated', 'grad'], [a, 'gated', 'grad', 'add']] as const,
  ),
  constants: { WORKGROUP: 64 },
  generate: (_, flags) => activationText(flags),
  grid: ({ len }, { WORKGROUP }) => grid1d(ceilDiv(len, WORKGROUP)),
})
