/** @file What a file of bench/results holds, as the page reads it: files that were written before a field was there lack it. */
import type { Row } from '../report.ts'

/** What `npm run bench -- --json` writes. */
export interface Report {
  readonly machine: string
  readonly adapter: string
  readonly host?: string
  /** Day of the run, and the commit that was measured. */
  readonly date?: string
  readonly commit?: string
  /** Rounds that were asked for. */
  readonly rounds?: number
  /** Packages that were measured, and their versions. */
  readonly versions?: Readonly<Record<string, string>>
  /** Engines that failed, and results that differ. */
  readonly problems?: readonly string[]
  /** Device and versions of the rows of engine `torch`. */
  readonly torch?: string
  readonly rows: readonly Row[]
}

/** What a part of the page is made of: returns its lines, none where the report has nothing for it. */
export interface Part {
  readonly report: Report
  readonly rows: readonly Row[]
  /** Files a chart and returns the lines that show it. */
  readonly picture: (name: string, alt: string, content: string | null) => string[]
}

const NAMES: Readonly<Record<string, string>> = {
  'etude-tile': 'Etude, tile',
  'etude-matrix': 'Etude, subgroup matrices',
  etude: 'Etude',
  tfjs: 'TensorFlow.js',
  '@tensorflow/tfjs': 'TensorFlow.js',
  '@jax-js/jax': 'jax-js',
  webgpu: 'Dawn (webgpu)',
  torch: 'PyTorch + PEFT',
}
export const nameOf = (engine: string): string => NAMES[engine] ?? engine
const TONES: Readonly<Record<string, number>> = { etude: 0, 'etude-tile': 1, tfjs: 2, naive: 4, 'onnxruntime-web': 5 }
/** Colour of an engine in every chart. */
export const toneOf = (engine: string): number => TONES[engine] ?? 3

/** Rows of a case. */
export const caseOf = (rows: readonly Row[], name: string): readonly Row[] => rows.filter((r) => r.case === name)
/** Most multiply-adds a second and bytes a second of a copy, of the same run; null where it was not measured. */
export const peakOf = (rows: readonly Row[]): number | null => caseOf(rows, 'peak-fma')[0]?.gflops ?? null
export const copyOf = (rows: readonly Row[]): number | null => caseOf(rows, 'peak-copy')[0]?.gb_per_s ?? null

/** SmolLM2's. */
const WIDTHS: readonly (number | undefined)[] = [576, 1536]
/** Products of SmolLM2's layers; the others are of shapes that every engine multiplies. */
export const isLayer = (r: Row): boolean => r.case === 'matmul' && WIDTHS.includes(r.n)
/** Rows of activations in a layer's product. */
export const rowsOf = ({ layout, m, k }: Row): number => (layout === 'tn' ? k! : m!)
export const isPeerProduct = (r: Row): boolean => r.case === 'matmul' && !isLayer(r)

/** `lavapipe` and `SwiftShader` compute on the CPU; null is a GPU, or not known. */
export function softwareOf({ adapter }: Report): 'lavapipe' | 'SwiftShader' | null {
  if (/llvmpipe|lavapipe/i.test(adapter)) return 'lavapipe'
  return /swiftshader/i.test(adapter) ? 'SwiftShader' : null
}
/** Threads of the machine, where its description says so. */
export const threadsOf = ({ machine }: Report): string | null => /(\d+) threads/.exec(machine)?.[1] ?? null
