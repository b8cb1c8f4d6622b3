/** @file Whether the studio may measure the GPU when it starts: a setting of this browser, kept beside the page's other ones. */

const KEY = 'etude-tuning'

export const mayTune = (): boolean => localStorage.getItem(KEY) !== 'off'
/** From the next start on. */
export function setTuning(on: boolean): void {
  if (on) localStorage.removeItem(KEY)
  else localStorage.setItem(KEY, 'off')
}
