/**
 * @file Requests to the Hugging Face hub: one origin, a token in one header, refusals in words, broken connections tried again. Knows nothing of what is asked.
 */
import { FileError } from '../errors.ts'
import type { BlobStore } from './blob_store.ts'
import { HUB_ORIGIN } from './hub_files.ts'

export interface HubProgress {
  readonly file: string
  /** Bytes of all files, already stored ones included. */
  readonly done: number
  readonly total: number
}
export interface HubOptions {
  readonly store: BlobStore
  readonly fetch?: typeof fetch
  /** Access token for private and gated repositories; used for this download only. */
  readonly token?: string | null
  readonly signal?: AbortSignal
  readonly onProgress?: (p: HubProgress) => void
  /** How often a broken connection is taken up again without asking; the waits double from `wait` ms. */
  readonly retries?: number
  readonly wait?: number
}
/** A failure that the same request may survive a moment later. */
export class Interrupted extends Error {}

/** Answers that are no answer, in words. */
function refusal(response: Response, repo: string, what: string, token: boolean): FileError | Interrupted {
  const { status } = response
  const code = response.headers.get('x-error-code')
  const where = `${repo}, ${what}`
  if (code === 'GatedRepo' || status === 403) {
    return new FileError('Its owner gives access on request only', {
      where,
      fix: `Accept the conditions at ${HUB_ORIGIN}/${repo}${token ? ' with the account of your token' : ', then enter an access token of your account'}`,
    })
  }
  if (status === 401) {
    const fix = token
      ? 'Check the token, and the spelling of the name'
      : 'Check the spelling; for a private or gated repository, enter an access token'
    return new FileError(
      token ? 'The hub does not accept the access token, or there is no such repository' : 'There is no such public repository',
      { where, fix },
    )
  }
  if (status === 404)
    return new FileError(code === 'RevisionNotFound' ? 'There is no such revision' : 'There is no such repository or file', {
      where,
      fix: 'Check the spelling',
    })
  if (status === 429)
    return new FileError('The hub refuses more requests for now', { where, fix: 'Try again in some minutes, or enter an access token' })
  if (status >= 500) return new Interrupted(`The hub answered ${status}`)
  return new FileError(`The hub answered ${status}`, { where, fix: 'Try again later' })
}

/** Requests to the hub and nowhere else. */
export function client(repo: string, { fetch: send = fetch, token = null, signal }: HubOptions) {
  if (token !== null && !/^[\x21-\x7e]{1,512}$/.test(token))
    throw new FileError('This is no access token', { fix: 'Copy it again: it has no spaces and begins with hf_' })
  return async (path: string, what: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> => {
    let response: Response
    try {
      response = await send(`${HUB_ORIGIN}/${path}`, {
        headers: { ...headers, ...(token !== null && { Authorization: `Bearer ${token}` }) },
        credentials: 'omit',
        referrerPolicy: 'no-referrer',
        ...(signal && { signal }),
      })
    } catch (e) {
      signal?.throwIfAborted()
      throw new Interrupted(e instanceof Error ? e.message : String(e))
    }
    if (response.ok || response.status === 416) return response
    await response.body?.cancel().catch(() => undefined)
    throw refusal(response, repo, what, token !== null)
  }
}
export type Client = ReturnType<typeof client>

/** Runs again after interruptions, waiting longer each time. @throws FileError after the last. */
export async function withRetries<T>(where: string, { retries = 4, wait = 1000, signal }: HubOptions, run: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await run()
    } catch (e) {
      if (!(e instanceof Interrupted)) throw e
      if (attempt >= retries) {
        throw new FileError(`The connection failed (${e.message})`, {
          where,
          why: 'The network is down, blocked or slow',
          fix: 'Try again: what was downloaded is kept, and the download goes on from there',
        })
      }
      await new Promise((resolve) => setTimeout(resolve, wait * 2 ** attempt))
      signal?.throwIfAborted()
    }
  }
}
