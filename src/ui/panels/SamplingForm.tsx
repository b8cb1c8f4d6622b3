/** @file How the next token is drawn. Rendered from declarations, as every form; stop texts are a list. */
import { TagsInput } from '@mantine/core'
import { float, int } from '../../options.ts'
import { setSampling } from '../actions/choose.ts'
import { OptionField } from '../components/OptionsForm.tsx'
import { useStudio } from '../store/store.ts'

const OPTIONS = {
  temperature: float({ label: 'Temperature', help: '0 always takes the likeliest token.', default: 0, min: 0, max: 5, step: 0.1 }),
  topK: int({ label: 'Top-k', help: 'Draw among the k likeliest; 0 is off.', default: 0, min: 0, max: 100_000 }),
  topP: float({ label: 'Top-p', help: 'Draw among the likeliest that make up p; 1 is off.', default: 1, min: 0.01, max: 1, step: 0.05 }),
  seed: int({ label: 'Seed', help: 'The same seed draws the same text.', default: 0, min: 0, max: 0xffffffff }),
  maxTokens: int({ label: 'Longest answer', help: 'In tokens.', default: 96, min: 1, max: 8192 }),
}
const NONE: ReadonlySet<string> = new Set()
const quiet = (): void => undefined

export function SamplingForm() {
  const sampling = useStudio((s) => s.choices.sampling)
  return (
    <div className="form" style={{ gridTemplateColumns: 'repeat(auto-fill, minmax(112px, 1fr))' }}>
      {Object.entries(OPTIONS).map(([name, option]) => (
        <OptionField
          key={name}
          name={name}
          option={option}
          value={sampling[name as keyof typeof OPTIONS]}
          changed={NONE}
          prefix="sampling"
          onChange={(n, v) => {
            setSampling({ [n]: v })
          }}
          onInvalid={quiet}
        />
      ))}
      <TagsInput
        label="Stop at"
        description="Texts that end the answer."
        inputWrapperOrder={['label', 'input', 'error', 'description']}
        value={[...sampling.stop]}
        onChange={(stop) => {
          setSampling({ stop })
        }}
        data-testid="sampling-stop"
      />
    </div>
  )
}
