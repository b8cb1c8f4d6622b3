/** Qwen3 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { testDecoder } from '../../test/decoder_family.ts'
import { qwen3 } from './qwen3.ts'

testDecoder(qwen3)
