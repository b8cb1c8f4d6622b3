/** @file What the GPU is and allows. Where there is none: which browser has one, and what to do. */
import { Button, Checkbox, Loader } from '@mantine/core'
import { useState } from 'react'
import { findGpu, skipMeasuring } from '../actions/boot.ts'
import { Card, Facts, Tag } from '../components/parts.tsx'
import { ErrorCard } from '../components/ErrorCard.tsx'
import { bytes } from '../format.ts'
import { useStudio } from '../store/store.ts'
import { mayTune, setTuning } from '../tuning.ts'
import type { DeviceInfo } from '../../worker/protocol.ts'

export const deviceName = (d: DeviceInfo): string => d.description || [d.vendor, d.architecture].filter(Boolean).join(' ') || 'GPU'

export function DeviceCard() {
  const engine = useStudio((s) => s.engine)
  if (engine.status !== 'ready') return null
  const d = engine.device
  return (
    <Card title="This device" aside={d.software ? <Tag tone="warn">software: slow</Tag> : undefined}>
      <div className="stack" data-testid="device">
        <Facts
          wide
          entries={[
            ['GPU', deviceName(d)],
            ['Arithmetic', d.f16 ? '16 and 32 bit' : '32 bit; weights may be kept in fewer'],
            [
              'Subgroups',
              d.subgroups ? `${d.subgroups.min === d.subgroups.max ? '' : `${d.subgroups.min} to `}${d.subgroups.max} lanes` : 'no',
            ],
            // Behind a flag of the browser: said only where it is on.
            ...(d.matrix ? [['Subgroup matrices', `${d.matrix.M} × ${d.matrix.N} × ${d.matrix.K}, ${d.matrix.type}`] as const] : []),
            ...(d.dot ? [['New tokens', 'packed products of 8-bit numbers'] as const] : []),
            ['Largest buffer', bytes(d.maxBufferSize)],
            ['Largest binding', bytes(d.maxStorageBufferBindingSize)],
            ['Matrix products', d.tuned ? `measured: ${d.tuned.classes} kinds, ${(d.tuned.ms / 1000).toFixed(1)} s once` : 'by default'],
          ]}
        />
        {d.notes.map((note) => (
          <p key={note} className="small warn" data-testid="device-note">
            {note}
          </p>
        ))}
        {!d.software && <Tuning />}
        {d.software && (
          <p className="small soft">
            No graphics hardware is used: the browser computes on the processor. Small models work; to use a GPU, turn on hardware
            acceleration in the browser’s settings.
          </p>
        )}
      </div>
    </Card>
  )
}

/** Whether kernels are chosen by measuring them, at the next start. */
function Tuning() {
  const [on, set] = useState(mayTune)
  return (
    <Checkbox
      size="xs"
      label="Measure this GPU once, for at most 3 s, to choose its fastest kernels"
      checked={on}
      onChange={(e) => {
        setTuning(e.currentTarget.checked)
        set(e.currentTarget.checked)
      }}
    />
  )
}

/** The first start on a GPU: what takes the time, and a way out. */
function Measuring() {
  return (
    <Card title="Measuring this GPU" aside={<Loader size="xs" />}>
      <div className="stack" data-testid="measuring">
        <p>
          A few matrix products are timed, for at most 3 s, so that training uses the fastest kernels. It is done once for a GPU and a
          browser.
        </p>
        <div>
          <Button size="xs" onClick={skipMeasuring} data-testid="skip-measuring">
            Skip
          </Button>
        </div>
      </div>
    </Card>
  )
}

/** Shown above every step while nothing can be computed. */
export function NoGpu() {
  const engine = useStudio((s) => s.engine)
  if (engine.status === 'starting' && engine.measuring) return <Measuring />
  if (engine.status === 'lost')
    return (
      <ErrorCard error={engine.error}>
        <Button size="xs" onClick={() => void findGpu()} data-testid="find-gpu">
          Start the GPU again
        </Button>
      </ErrorCard>
    )
  if (engine.status !== 'missing') return null
  return (
    <div data-testid="no-gpu" className="stack">
      <ErrorCard error={engine.error} tone="warn" />
      <Card title="What Etude needs">
        <div className="stack">
          <p>
            Training runs on the graphics chip through WebGPU, which this browser does not offer here. Everything else on this page works:
            data can be read and checked.
          </p>
          <table className="table">
            <thead>
              <tr>
                <th scope="col">Browser</th>
                <th scope="col">What to do</th>
              </tr>
            </thead>
            <tbody>
              <tr>
                <th scope="row">Chrome, Edge 137 or later</th>
                <td>
                  Works on Windows, macOS, ChromeOS and Android. If it is switched off: Settings, System, “Use graphics acceleration when
                  available”, then restart the browser.
                </td>
              </tr>
              <tr>
                <th scope="row">Chrome on Linux</th>
                <td>
                  Open <code>chrome://flags/#enable-unsafe-webgpu</code> and <code>chrome://flags/#enable-vulkan</code>, enable both,
                  restart. <code>chrome://gpu</code> tells what is missing.
                </td>
              </tr>
              <tr>
                <th scope="row">Firefox, Safari</th>
                <td>WebGPU is there in recent versions, but Etude is tested in Chromium only.</td>
              </tr>
              <tr>
                <th scope="row">Not over https</th>
                <td>WebGPU needs https or localhost. Etude’s own server is on localhost.</td>
              </tr>
            </tbody>
          </table>
        </div>
      </Card>
    </div>
  )
}
