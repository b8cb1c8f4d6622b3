/** @file How the frozen weights are kept on the GPU: one choice for every method, with the bytes that each takes. */
import { Select } from '@mantine/core'
import { type Base, RUN_OPTIONS } from '../../train/run_config.ts'
import type { ModelInfo } from '../../worker/protocol.ts'
import { setRunOption } from '../actions/choose.ts'
import { bytes } from '../format.ts'
import { isRunning, methodOf, modelWidth, runValues, trainRows } from '../store/select.ts'
import { useStudio } from '../store/store.ts'

const NAMES: Readonly<Record<Exclude<Base, 'keep'>, string>> = {
  nf4: 'NF4: 4 bits, as QLoRA',
  q8: 'Q8: 8-bit blocks',
  f16: 'f16: 16-bit floats',
  f32: 'f32: 32-bit floats',
}
const nameOf = (base: Base, { storage }: ModelInfo): string => (base === 'keep' ? `As in the file (${storage})` : NAMES[base])

export function BaseForm({ info }: { info: ModelInfo }) {
  const choices = useStudio((s) => s.choices)
  const rows = useStudio(trainRows)
  const width = useStudio(modelWidth)
  const running = useStudio(isRunning)
  const method = methodOf(choices)
  const { base } = runValues(method, choices, rows, width)
  const trainsAll = method?.slot === 'weights'
  return (
    <Select
      label={RUN_OPTIONS.base.label}
      description={
        trainsAll
          ? `${method.title} trains the weights themselves: they are kept as f32, and only “as in the file” and f32 can be chosen.`
          : 'On the GPU, while an adapter is trained beside them. With 4 or 8 bits, token embeddings and head take 8.'
      }
      inputWrapperOrder={['label', 'input', 'error', 'description']}
      data={info.bases.map((b) => ({ value: b.base, label: `${nameOf(b.base, info)}, ${bytes(b.bytes)}` }))}
      value={base}
      error={trainsAll && base !== 'keep' && base !== 'f32' ? 'Not with this method' : undefined}
      allowDeselect={false}
      disabled={running}
      onChange={(v) => {
        if (v) setRunOption('base', v)
      }}
      data-testid="run-base"
    />
  )
}
