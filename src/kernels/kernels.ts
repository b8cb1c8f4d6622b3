/** @file Every kernel. One line each; the conformance suite reads this list. */
export { pointwiseKernel } from './pointwise.ts'
