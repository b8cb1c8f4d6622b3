/**
 * @file The studio's Content-Security-Policy: nothing runs but its own files, and nothing is requested but itself and, when the user asks for a model,
 * the Hugging Face hub. `vite` and `vite preview` send it as a header with every response, so workers are held by it too; a build carries it as a
 * `<meta>` for hosts that set no headers. The development server needs one inline script (React Refresh) and is given a nonce for exactly that, made
 * anew at each start; its hot reload socket is same-origin and needs nothing.
 */
import { randomBytes } from 'node:crypto'
import type { Plugin } from 'vite'

const HUB = ['https://huggingface.co', 'https://*.huggingface.co', 'https://*.hf.co']

/** The policy, one directive an entry. `nonce` also lets inline scripts with that nonce run. */
export function policy(nonce?: string): readonly string[] {
  return [
    "default-src 'none'",
    `script-src 'self' 'wasm-unsafe-eval'${nonce === undefined ? '' : ` 'nonce-${nonce}'`}`,
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' blob: data:",
    "font-src 'self'",
    "worker-src 'self' blob:",
    `connect-src 'self' ${HUB.join(' ')}`,
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
  ]
}

/** As a header it can also say that no page may frame the studio. */
const header = (nonce?: string) => ({ 'Content-Security-Policy': [...policy(nonce), "frame-ancestors 'none'"].join('; ') })

/** Vite plugin that sets the policy in development, preview and build. */
export function contentSecurityPolicy(): Plugin {
  const nonce = randomBytes(16).toString('base64')
  return {
    name: 'etude:csp',
    config(_, { command, isPreview }) {
      if (command === 'build') return {}
      return isPreview ? { preview: { headers: header() } } : { server: { headers: header(nonce) }, html: { cspNonce: nonce } }
    },
    transformIndexHtml(_, { server }) {
      if (server) return []
      return [{ tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: policy().join('; ') }, injectTo: 'head-prepend' }]
    },
  }
}
