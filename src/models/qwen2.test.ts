/** Qwen2 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { testDecoder } from '../../test/decoder_family.ts'
import { qwen2 } from './qwen2.ts'

testDecoder(qwen2)
