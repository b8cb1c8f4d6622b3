/** @file The data set that comes with the page. */
export interface Sample {
  readonly id: string
  readonly title: string
  readonly summary: string
  /** Relative to the page. */
  readonly path: string
}
export const SAMPLES: readonly Sample[] = [
  {
    id: 'sample',
    title: 'Story morals',
    summary: 'Short stories, each with its moral. The starter model cannot tell the moral yet.',
    path: 'samples/morals.jsonl',
  },
]

/** The sample as a File, from the page's own server. */
export async function sampleFile(sample: Sample): Promise<File> {
  const response = await fetch(new URL(sample.path, document.baseURI))
  if (!response.ok) throw new Error(`${sample.path}: the server answered ${response.status}`)
  return new File([await response.blob()], sample.path.split('/').at(-1) ?? sample.path)
}
