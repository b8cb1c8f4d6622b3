/** @file What was checked on a data set, in words: template, BOS, EOS, padding, cuts. */
import type { MaskTally } from './masks.ts'
import type { CutStats, DataCheck } from './report.ts'
import type { Tokenizer } from './types.ts'

export interface CheckInput {
  readonly tokenizer: Tokenizer | null
  readonly tally: MaskTally
  /** 'own': the tokenizer's; 'chosen': given in the options; null: none. */
  readonly template: 'own' | 'chosen' | null
  readonly cut: CutStats
  readonly suggestedSeq: number
}

const count = (n: number, one: string): string => `${n} ${one}${n === 1 ? '' : 's'}`

export function dataChecks(input: CheckInput): DataCheck[] {
  const { tokenizer, tally } = input
  const asIs = 'Rows are already tokenised and taken as they are.'
  const checks: DataCheck[] =
    tally.encoded === 0 || !tokenizer
      ? [
          { id: 'template', ok: true, text: asIs },
          { id: 'bos', ok: true, text: `${asIs} No BOS is added.` },
          { id: 'eos', ok: true, text: `${asIs} No EOS is added.` },
        ]
      : [template(input), bos(tokenizer, tally), eos(tokenizer, tally)]
  return [...checks, padding(tokenizer), cuts(input)]
}

function template({ template, tally }: CheckInput): DataCheck {
  const name = template === 'chosen' ? 'The chosen template' : "The model's chat template"
  if (tally.templated === 0)
    return {
      id: 'template',
      ok: true,
      text: template ? `${name} is not used: rows are plain text.` : 'No chat template: each row is one text.',
    }
  return { id: 'template', ok: true, text: `${name} wrote ${count(tally.templated, 'row')}.` }
}

function bos(tokenizer: Tokenizer, tally: MaskTally): DataCheck {
  const name = tokenizer.bosId === null ? '' : tokenizer.token(tokenizer.bosId)
  if (tally.doubleBos > 0)
    return {
      id: 'bos',
      ok: false,
      text: `${count(tally.doubleBos, 'row')} begin with ${name} twice: the text has one of its own. Remove it from the data or the template.`,
    }
  if (tally.bos === tally.encoded) return { id: 'bos', ok: true, text: `Each row begins with ${name}, once.` }
  if (tally.bos === 0) return { id: 'bos', ok: true, text: 'No BOS: neither the template nor the tokenizer puts one.' }
  return {
    id: 'bos',
    ok: true,
    text: `${tally.bos} of ${count(tally.encoded, 'row')} begin with ${name}, as template and tokenizer have it.`,
  }
}

function eos(tokenizer: Tokenizer, tally: MaskTally): DataCheck {
  const open = tally.turns - tally.closed
  const closing = tally.closingId === null ? '' : tokenizer.token(tally.closingId)
  if (open === 0) return { id: 'eos', ok: true, text: `${closing} ends each of ${count(tally.turns, 'trained turn')} and is trained.` }
  const why = tokenizer.eosId === null && tally.templated === 0 ? 'the tokenizer has no EOS' : 'nothing closes them'
  return {
    id: 'eos',
    ok: false,
    text: `${open} of ${count(tally.turns, 'trained turn')} do not end in a special token (${why}): the model will not learn to stop there.`,
  }
}

function padding(tokenizer: Tokenizer | null): DataCheck {
  const same = tokenizer && tokenizer.padId !== null && tokenizer.padId === tokenizer.eosId
  const note = same
    ? ` Here padding and EOS are the same token, ${tokenizer.token(tokenizer.eosId ?? 0)}: EOS is trained all the same.`
    : ''
  return { id: 'padding', ok: true, text: `Padding is masked by its position, never by its id.${note}` }
}

function cuts({ cut, suggestedSeq }: CheckInput): DataCheck {
  if (cut.truncated === 0) return { id: 'cut', ok: true, text: `No row is longer than ${cut.seq} tokens.` }
  if (cut.answersCut === 0)
    return { id: 'cut', ok: true, text: `${count(cut.truncated, 'row')} longer than ${cut.seq} tokens; no trained token is cut.` }
  const lost = cut.lost ? `, ${cut.lost} of them entirely` : ''
  return {
    id: 'cut',
    ok: false,
    text: `At ${cut.seq} tokens ${count(cut.answersCut, 'answer')} are cut${lost}. ${suggestedSeq} tokens hold 99 of 100 rows.`,
  }
}
