/** @file Puts the page on the screen over given workers: the product's own (main.tsx), or others while it is developed. */
import '@mantine/core/styles.css'
import './styles/tokens.css'
import './styles/layout.css'
import './styles/parts.css'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './App.tsx'
import { boot } from './actions/boot.ts'
import { installPageEffects } from './page/effects.ts'
import { connect, type DataService } from './services.ts'
import type { EngineClient } from '../worker/client.ts'

/** Before the first paint, so that a dark page does not flash white. Mantine keeps the choice under this name. */
function setSchemeEarly(): void {
  const stored = localStorage.getItem('mantine-color-scheme-value')
  const dark = stored === 'dark' || (stored !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.setAttribute('data-mantine-color-scheme', dark ? 'dark' : 'light')
}

export function mount(services: { engine: EngineClient; data: DataService }): void {
  setSchemeEarly()
  connect(services)
  const root = document.getElementById('root')
  if (!root) throw new Error('index.html has no #root')
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  )
  installPageEffects()
  void boot()
}
