/** @file The folder of a proof run: emptied of what an earlier run wrote, and of nothing else. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** Is written first: a folder that holds it is one of a proof run. */
export const WANTED = 'wanted.json'
/** What a run leaves there. */
const OWN = [WANTED, 'lines.json', 'rows.jsonl', 'run.json', 'adapter.zip', 'adapter', 'site', 'playwright', 'proof.json']

/** Makes the folder, or removes what an earlier run left in it. Throws where it holds anything that no proof run wrote. */
export function emptyFolder(folder) {
  const entries = existsSync(folder) ? readdirSync(folder) : []
  const foreign = entries.includes(WANTED) ? entries.filter((name) => !OWN.includes(name)) : entries
  if (foreign.length > 0)
    throw new Error(
      `--out: ${folder} holds ${foreign[0]}, which npm run proof did not write. Name an empty folder, or one of an earlier run`,
    )
  // The mark last: a folder that was half emptied is still one of a proof run.
  for (const name of [...entries.filter((e) => e !== WANTED), WANTED]) rmSync(join(folder, name), { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
}
