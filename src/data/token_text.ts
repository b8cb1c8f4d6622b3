/** @file A vocabulary entry as text for the screen: byte-level and SentencePiece spellings undone, bytes that are no character by themselves named. */

/**
 * Byte of each character of a byte-level vocabulary: printable Latin-1 stands for itself, the other bytes for U+0100 and up in order.
 * Radford et al. 2019 (GPT-2), `bytes_to_unicode`.
 */
const BYTE_OF: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 256
  for (let b = 0; b < 256; b++) {
    const printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
    map.set(String.fromCharCode(printable ? b : next++), b)
  }
  return map
})()

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** UTF-8 text of bytes; those that are part of a character only are written \xE6. */
export function bytesText(bytes: Uint8Array<ArrayBuffer>): string {
  try {
    return strict.decode(bytes)
  } catch {
    let out = ''
    for (let i = 0; i < bytes.length;) {
      const lead = bytes[i] ?? 0
      const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2
      try {
        out += strict.decode(bytes.subarray(i, i + length))
        i += Math.min(length, bytes.length - i)
      } catch {
        out += `\\x${lead.toString(16).toUpperCase().padStart(2, '0')}`
        i++
      }
    }
    return out
  }
}

/** Screen text of a vocabulary entry that is not an added token. */
export function byteToken(entry: string, byteLevel: boolean): string {
  if (byteLevel) {
    const bytes = Array.from(entry, (c) => BYTE_OF.get(c))
    return bytes.every((b) => b !== undefined) ? bytesText(Uint8Array.from(bytes)) : entry
  }
  const byte = /^<0x([0-9A-F]{2})>$/.exec(entry)?.[1]
  return byte ? bytesText(Uint8Array.of(parseInt(byte, 16))) : entry.replaceAll('▁', ' ')
}
