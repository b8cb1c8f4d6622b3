/** @file The whole page: header, the five steps, the step that is open, the plan.
 *
 * Test ids, for the browser tests (a field's id is on the input itself):
 *   step-model step-data step-method step-train step-try · next (the primary action of the first three) · theme · notice · error · obstacle
 *   model: use-starter drop-model[-input|-folder] hub-repo hub-revision hub-token hub-fetch downloads download-row download-delete download-delete-sure model-name model-info device no-gpu progress cancel
 *   data: drop-data[-input] use-sample (the first; use-sample-<id> for others) detected map-columns map-format map-<field> map-apply tokens row-number row-previous row-next histogram
 *         lengths use-suggested-length checks counts bad-rows dedupe eval-fraction split-seed loss-on template
 *         use-chatml use-plain
 *   method: method-<id> option-<name> option-more run-<name> (all but steps) reset-options
 *   train, before: run-steps length-unit run-epochs plan memory probe progress cancel extra-<name> sample-prompts run-name from-adapter start start-paused
 *   train, run: progress cancel status step eta pause resume step-once stop new-run try-result loss eval-loss lr grad-norm speed step-ms allocated
 *         chart chart-values chart-scale zoom-in zoom-out chart-table-toggle chart-table chart-csv chart-png chart-compare samples runs run-row
 *   try: prompt chat sampling-<name> sampling-stop generate stop-generating progress cancel base-output tuned-output scale tuned-source
 *         drop-adapter[-input|-folder] adapter-info unload-adapter continue-adapter export-adapter export-merged export-check export-diff download
 */
import { ActionIcon, CloseButton, MantineProvider, Tooltip, useMantineColorScheme, type MantineColorScheme } from '@mantine/core'
import { Monitor, Moon, Sun } from 'lucide-react'
import { dismissNotice } from './actions/choose.ts'
import { DataPanel } from './panels/DataPanel.tsx'
import { deviceName, NoGpu } from './panels/DeviceCard.tsx'
import { MethodPanel } from './panels/MethodPanel.tsx'
import { ModelPanel } from './panels/ModelPanel.tsx'
import { TrainPanel } from './panels/TrainPanel.tsx'
import { TryPanel } from './panels/TryPanel.tsx'
import { PlanAside } from './PlanAside.tsx'
import { StepNav } from './StepNav.tsx'
import { useStudio } from './store/store.ts'
import { resolver, theme } from './theme.ts'

const PANELS = { model: ModelPanel, data: DataPanel, method: MethodPanel, train: TrainPanel, try: TryPanel } as const

export function App() {
  const step = useStudio((s) => s.choices.step)
  const Panel = PANELS[step]
  return (
    <MantineProvider theme={theme} cssVariablesResolver={resolver} defaultColorScheme="auto">
      <a className="skip" href="#main">
        Skip to the step
      </a>
      <Header />
      <div className="shell">
        <StepNav />
        <main id="main" tabIndex={-1}>
          <Notice />
          <NoGpu />
          <Panel />
        </main>
        <PlanAside />
      </div>
    </MantineProvider>
  )
}

function Header() {
  const engine = useStudio((s) => s.engine)
  const tone = engine.status === 'ready' ? 'good' : engine.status === 'starting' ? 'plain' : 'bad'
  const text =
    engine.status === 'ready'
      ? `${deviceName(engine.device)}${engine.device.f16 ? ' · f16' : ''}${engine.device.software ? ' · software' : ''}`
      : {
          starting: engine.status === 'starting' && engine.measuring ? 'Measuring the GPU' : 'Looking for a GPU',
          missing: 'No GPU',
          lost: 'The GPU was lost',
        }[engine.status]
  return (
    <header className="top">
      <span className="logo">Etude</span>
      <span className="soft small wide-only">fine-tune a language model in this tab</span>
      <span className="grow" />
      <span className="chip" data-testid="device-chip">
        <span className="dot" data-tone={tone} />
        <span style={{ overflow: 'hidden', textOverflow: 'ellipsis' }}>{text}</span>
      </span>
      <ThemeButton />
    </header>
  )
}

const NEXT: Readonly<Record<MantineColorScheme, MantineColorScheme>> = { auto: 'light', light: 'dark', dark: 'auto' }
const THEME_NAMES: Readonly<Record<MantineColorScheme, string>> = { auto: 'as the system', light: 'light', dark: 'dark' }
const ICONS = { auto: Monitor, light: Sun, dark: Moon } as const

function ThemeButton() {
  const { colorScheme, setColorScheme } = useMantineColorScheme()
  const Icon = ICONS[colorScheme]
  const label = `Colours: ${THEME_NAMES[colorScheme]}. Change to ${THEME_NAMES[NEXT[colorScheme]]}`
  return (
    <Tooltip label={label}>
      <ActionIcon
        aria-label={label}
        data-testid="theme"
        onClick={() => {
          setColorScheme(NEXT[colorScheme])
        }}
      >
        <Icon size={18} aria-hidden />
      </ActionIcon>
    </Tooltip>
  )
}

function Notice() {
  const notice = useStudio((s) => s.notice)
  if (notice === null) return null
  return (
    <div className="note" role="status" data-testid="notice">
      <span style={{ flex: 1 }}>{notice}</span>
      <CloseButton size="sm" aria-label="Dismiss" onClick={dismissNotice} />
    </div>
  )
}
