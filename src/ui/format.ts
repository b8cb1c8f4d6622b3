/** @file Numbers as people read them: three significant digits, units, no locale surprises. Pure. */

/** Three significant digits without exponent or trailing zeros ("0.0123", "12.3", "1,230"); tiny or huge ones as "8.1e-5". */
export function sig3(x: number): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? '–' : x > 0 ? '∞' : '-∞'
  if (x === 0) return '0'
  const a = Math.abs(x)
  if (a < 1e-3 || a >= 1e9)
    return x
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e')
  if (a >= 100) return group(Math.round(a >= 1000 ? Number(x.toPrecision(3)) : x))
  return String(Number(x.toPrecision(3)))
}

/** A loss: always three decimals below 10, so that the figure does not jump while it runs. */
export const loss3 = (x: number): string =>
  !Number.isFinite(x) ? sig3(x) : Math.abs(x) < 10 ? x.toFixed(3) : Math.abs(x) < 100 ? x.toFixed(2) : sig3(x)

/** Thousands separated: 12345 → "12,345". */
export const group = (n: number): string => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ',')

function scaled(x: number, units: readonly string[], base: number, from: number): string {
  let value = x
  let i = 0
  while (Math.abs(value) >= (i === 0 ? from : base) && i < units.length - 1) {
    value /= base
    i++
  }
  // 999.9 rounds up into the next unit
  if (i > 0 && Number(Math.abs(value).toPrecision(3)) >= base && i < units.length - 1) {
    value /= base
    i++
  }
  const text = i === 0 ? group(Math.round(value)) : sig3(value)
  return units[i] ? `${text}\u00a0${units[i] ?? ''}` : text
}

/** Bytes in decimal units: "98.3 MB". */
export const bytes = (n: number): string => scaled(n, ['B', 'kB', 'MB', 'GB', 'TB'], 1000, 1000)

/** A count: whole and grouped below 10,000, then "55.3 k", "2.44 M". */
export const count = (n: number): string => scaled(n, ['', 'k', 'M', 'B', 'T'], 1000, 10_000)

/** "1 row", "817 rows". */
export const plural = (n: number, one: string, many = `${one}s`): string => `${n < 10_000 ? group(n) : count(n)} ${n === 1 ? one : many}`

/** Part of a whole: "1.8 %". */
export const percent = (part: number, whole: number): string => {
  if (!(whole > 0)) return '–'
  const p = (100 * part) / whole
  return `${p > 0 && p < 0.001 ? '< 0.001' : p >= 99.95 ? '100' : String(Number(p.toPrecision(p < 10 ? 2 : 3)))}\u00a0%`
}

/** Milliseconds of one step: "264 ms", "1.25 s". */
export const stepTime = (ms: number): string => (ms >= 1000 ? `${sig3(ms / 1000)}\u00a0s` : `${sig3(ms)}\u00a0ms`)

/** A span of time for people: "4 s", "2 min", "1 h 5 min". */
export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return '–'
  const s = Math.round(ms / 1000)
  if (s < 1) return 'under 1 s'
  if (s < 100) return `${s}\u00a0s`
  const min = Math.round(s / 60)
  if (min < 60) return `${min}\u00a0min`
  const h = Math.floor(min / 60)
  if (h < 48) return min % 60 ? `${h}\u00a0h ${min % 60}\u00a0min` : `${h}\u00a0h`
  return `${Math.round(h / 24)}\u00a0days`
}

/** "about 2 min", but "under 1 s" as it is. */
export const about = (span: string): string => (span.startsWith('under') ? span : `about ${span}`)

/** How long ago a moment was: "just now", "5 min ago", or its date. */
export function ago(iso: string, now: number): string {
  const then = Date.parse(iso)
  if (Number.isNaN(then)) return iso
  const ms = now - then
  if (ms < 60_000) return 'just now'
  if (ms < 86_400_000) return `${duration(ms)} ago`
  return new Date(then).toISOString().slice(0, 10)
}

/** "-0.031" → "▾ 0.031", with a word for screen readers left to the caller. */
export const change = (delta: number): string =>
  Math.abs(delta) < 5e-4 ? '' : `${delta < 0 ? '▾' : '▴'}\u00a0${Math.abs(delta).toPrecision(2)}`
