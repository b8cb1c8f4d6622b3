/** @file Full fine-tuning: every weight of the model is trained. */
import { defineWeights } from './method.ts'

export const full = defineWeights({
  id: 'full',
  title: 'Full fine-tuning',
  summary: 'Every weight of the model. The most memory, and the result is a whole model.',
  paper: { cite: 'Howard and Ruder 2018', url: 'https://arxiv.org/abs/1801.06146' },
  slot: 'weights',
  merges: true,
  options: {},
  runDefaults: { lr: 2e-4, schedule: 'linear', warmup: 10 },
  rateByWidth: true,
})
