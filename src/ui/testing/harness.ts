/** @file The page over a made-up engine and the real data worker, for development: /src/ui/testing/ in `npm run dev`.
 * `?no-gpu`, `?broken`, `?slow`, `?refused`, `?chat`, `?model-fails` show those states. */
import { DataClient } from '../../data/client.ts'
import { GpuError, ModelError } from '../../errors.ts'
import type { TokenizerFiles } from '../../data/types.ts'
import { EngineClient } from '../../worker/client.ts'
import { mount } from '../mount.tsx'
import { FAKE, FakeEngine } from './fake_engine.ts'

const query = new URLSearchParams(location.search)
const json = async (path: string): Promise<unknown> => (await fetch(path)).json()

const tokenizer: TokenizerFiles = {
  tokenizer: await json('/starter/tokenizer.json'),
  config: (await json('/starter/tokenizer_config.json')) as TokenizerFiles['config'],
}
const chatml = `{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

mount({
  engine: new EngineClient(
    new FakeEngine({
      ...FAKE,
      ...(query.has('slow') && { loadMs: 60_000 }),
      tokenizer,
      chatTemplate: query.has('chat') ? chatml : null,
      gpu: !query.has('no-gpu'),
      breakAt: query.has('broken') ? 60 : 0,
      refuse: query.has('refused')
        ? new GpuError('The run needs 5.2 GB, and this device allows 4.29 GB', {
            why: 'A buffer that cannot be created would stop the run',
            fix: 'Set the batch to 2 (3.1 GB), or turn on “Recompute activations” (2.4 GB).',
          })
        : null,
      fail: query.has('model-fails')
        ? {
            'load-model': new ModelError('The file ends in the middle of a tensor', {
              where: 'model.safetensors, model.layers.3.mlp.up_proj.weight',
              why: 'Its last 12.3 MB are missing',
              fix: 'Copy or download the file again.',
            }),
          }
        : {},
    }),
  ),
  data: new DataClient(() => new Worker(new URL('../../data/data.worker.ts', import.meta.url), { type: 'module' })),
})
