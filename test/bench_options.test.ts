/** What the bench's command line takes is what the bench has. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { ENGINES } from '../bench/engines.ts'
import { PARTS } from '../bench/suite.ts'

/** Its exit code and first line of errors. */
function bench(...args: string[]): { readonly status: number | null; readonly complaint: string } {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/bench.mjs', ...args], { encoding: 'utf8' })
  return { status, complaint: stderr.split('\n')[0] }
}

test.each([
  [['--engines', 'etude,typo'], `--engines wants some of ${Object.keys(ENGINES).join(', ')}, not typo`],
  [['--engines', ''], `--engines wants some of ${Object.keys(ENGINES).join(', ')}, not `],
  [['--engines', 'tfjs', '--node'], '--engines with --node wants some of etude, naive, not tfjs'],
  [['--only', 'typo'], `--only wants some of ${PARTS.join(', ')}, not typo`],
])('%j is refused', (args, complaint) => {
  expect(bench(...args)).toEqual({ status: 2, complaint })
})
