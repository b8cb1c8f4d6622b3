/** @file The label of what is not trained, and counting labels as the loss does. */

/** Not trained. PyTorch's `ignore_index`. */
export const IGNORE = -100

/** Labels in [from, to) that are predicted from a token before them in the same row: all but the first that are not -100. */
export function countTrained(labels: Int32Array, from: number, to: number): number {
  let n = 0
  for (let i = from + 1; i < to; i++) if (labels[i] !== IGNORE) n++
  return n
}
