/** @file The data sets that come with the page: one a format, each with a clear before and after on the starter model. */
export interface Sample {
  readonly id: string
  readonly title: string
  readonly summary: string
  /** Relative to the page. */
  readonly path: string
}

/** The first one is chosen on the first visit. */
export const SAMPLES: readonly Sample[] = [
  { id: 'story-morals', title: 'Story morals', summary: 'Short stories; the answer is the moral.', path: 'samples/story-morals.jsonl' },
  {
    id: 'pirate-answers',
    title: 'Pirate answers',
    summary: 'Questions answered as a pirate would, in a CSV.',
    path: 'samples/pirate-answers.csv',
  },
  {
    id: 'butler-chat',
    title: 'Butler chat',
    summary: 'Conversations as messages, several turns each.',
    path: 'samples/butler-chat.messages.jsonl',
  },
]

/** The sample as a File, from the page's own server. */
export async function sampleFile(sample: Sample): Promise<File> {
  const response = await fetch(new URL(`${import.meta.env.BASE_URL}${sample.path}`, document.baseURI))
  if (!response.ok) throw new Error(`${sample.path}: the server answered ${response.status}`)
  return new File([await response.blob()], sample.path.split('/').at(-1) ?? sample.path)
}
