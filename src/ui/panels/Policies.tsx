/** @file What keeping fewer activations would save, policy by policy; one can be chosen. */
import { Radio } from '@mantine/core'
import type { FixedPolicy } from '../../train/run_config.ts'
import type { PolicyCost, RunPlan } from '../../worker/protocol.ts'
import { setRunOption } from '../actions/choose.ts'
import { bytes, group } from '../format.ts'
import { configOf } from '../store/select.ts'
import { useStudio } from '../store/store.ts'

const POLICY_TEXT: Readonly<Record<FixedPolicy, string>> = {
  fast: 'keeps every activation',
  recompute: 'computes norms and activations again',
  checkpoint: 'computes each block again',
  lean: 'as checkpoint, and the loss in small pieces',
}

/** A description belongs to the label above it. */
const CLOSE = { description: { marginTop: 0 } }

function costOf({ policy, dispatches, arithmetic, checkpointEvery }: PolicyCost): string {
  const at = (checkpointEvery ?? 1) > 1 ? `, ${checkpointEvery} blocks at a time` : ''
  return `${POLICY_TEXT[policy]}${at}; ${group(dispatches)} calls a step${arithmetic > 1.005 ? `, ${arithmetic.toFixed(2)} × the arithmetic` : ''}`
}

export function Policies({ plan }: { readonly plan: RunPlan }) {
  const config = configOf(useStudio((s) => s))
  if (plan.policies.length === 0 || !config) return null
  const auto = config.run.policy === 'auto'
  return (
    <div className="stack" style={{ gap: 8 }} data-testid="policies">
      <h3 className="small">Activations kept for the backward pass{config.run.activation_dtype === 'f16' && ', as f16'}</h3>
      <Radio.Group
        value={config.run.policy}
        onChange={(v) => {
          setRunOption('policy', v)
        }}
        aria-label="Activations kept for the backward pass"
      >
        <div className="stack" style={{ gap: 10 }}>
          <Radio size="xs" value="auto" label={auto ? `auto: ${plan.policy}` : 'auto'} description="the first that fits" styles={CLOSE} />
          {plan.policies.map((p) => (
            <Radio
              key={p.policy}
              size="xs"
              value={p.policy}
              label={`${p.policy}: ${bytes(p.total)}`}
              description={costOf(p)}
              styles={CLOSE}
            />
          ))}
        </div>
      </Radio.Group>
    </div>
  )
}
