/** @file Mantine's theme over the page's own tokens (styles/tokens.css), so that both halves have one set of colours, in light and dark. */
import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core'

/** Blue: trained, active. Shade 8 carries white text at 7.6:1. */
const blue: MantineColorsTuple = [
  '#eef1fd',
  '#dfe4fb',
  '#c2ccf7',
  '#a3b3fb',
  '#8ea6ff',
  '#6b86f0',
  '#4c69e2',
  '#3656d6',
  '#2748c8',
  '#1f3aa4',
]

/** Mantine's dark greys, as the page has them. */
const dark: MantineColorsTuple = [
  '#ececf1',
  '#b0b0bb',
  '#9a9aa6',
  '#6d6d79',
  '#42424c',
  '#2e2e36',
  '#222228',
  '#1a1a1e',
  '#141417',
  '#121214',
]

export const theme = createTheme({
  primaryColor: 'blue',
  colors: { blue, dark },
  primaryShade: 8,
  autoContrast: true,
  fontFamily: 'var(--sans)',
  fontFamilyMonospace: 'var(--mono)',
  headings: { fontFamily: 'var(--sans)', fontWeight: '650' },
  defaultRadius: 8,
  cursorType: 'pointer',
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { variant: 'default', size: 'sm' } },
    ActionIcon: { defaultProps: { variant: 'subtle', color: 'gray', size: 'lg' } },
    SegmentedControl: { defaultProps: { size: 'xs' } },
    Tooltip: {
      defaultProps: { withArrow: true, multiline: true, maw: 280, openDelay: 250, events: { hover: true, focus: true, touch: false } },
    },
    Switch: { defaultProps: { size: 'sm' } },
    Select: { defaultProps: { allowDeselect: false, withCheckIcon: false } },
  },
})

const roles = {
  '--mantine-color-body': 'var(--bg)',
  '--mantine-color-text': 'var(--ink)',
  '--mantine-color-dimmed': 'var(--soft)',
  '--mantine-color-placeholder': 'var(--faint)',
  '--mantine-color-default': 'var(--panel)',
  '--mantine-color-default-hover': 'var(--sunk)',
  '--mantine-color-default-color': 'var(--ink)',
  '--mantine-color-default-border': 'var(--bd)',
  '--mantine-color-anchor': 'var(--accent)',
  '--mantine-color-error': 'var(--bad)',
}
export const resolver: CSSVariablesResolver = () => ({ variables: {}, light: roles, dark: roles })
