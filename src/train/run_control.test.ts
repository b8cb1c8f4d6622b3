import { expect, test } from 'vitest'
import { RunControl } from './run_control.ts'

test('runs until paused, single steps are counted, resume forgets those left', () => {
  const c = new RunControl()
  expect([c.next(), c.next()]).toEqual(['step', 'step'])
  c.pause()
  expect([c.next(), c.next()]).toEqual(['wait', 'wait'])
  c.step()
  c.step()
  expect([c.next(), c.next(), c.next()]).toEqual(['step', 'step', 'wait'])
  c.step()
  c.resume()
  c.pause()
  expect(c.next()).toBe('wait')
})

test('a checkpoint is taken once, also while paused; stopping is for good', () => {
  const c = new RunControl(true)
  c.checkpoint()
  expect([c.next(), c.next()]).toEqual(['checkpoint', 'wait'])
  c.stop()
  c.resume()
  c.step()
  expect([c.next(), c.stopped]).toEqual(['stop', true])
})

test('waiting ends with a command, with one that came before, and with the signal', async () => {
  const c = new RunControl(true)
  const waiting = c.changed()
  c.step()
  await waiting
  await c.changed()
  expect(c.next()).toBe('step')
  const abort = new AbortController()
  const aborted = c.changed(abort.signal)
  abort.abort(new Error('enough'))
  await expect(aborted).rejects.toThrow('enough')
  await expect(c.changed(abort.signal)).rejects.toThrow('enough')
})
