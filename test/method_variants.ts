/** @file The options that a method is tested with, from its declaration alone. */
import type { Options } from '../src/options.ts'
import type { Json } from '../src/peft/method.ts'

/** The default options, and each switch, choice and count away from its default, one at a time. */
export function variantsOf(options: Options): Json[] {
  const of = Object.entries(options).flatMap(([name, o]): Json[] => {
    if (o.kind === 'bool') return [{ [name]: !o.default }]
    if (o.kind === 'choice') return o.choices.filter((c) => c !== o.default).map((c) => ({ [name]: c }))
    // Three: no power of two, so that no parameter is a whole number of blocks.
    return o.kind === 'int' ? [{ [name]: Math.max(o.min, 3) }] : []
  })
  return [{}, ...of]
}
