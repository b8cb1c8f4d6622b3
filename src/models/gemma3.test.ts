/** Gemma 3 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { testDecoder } from '../../test/decoder_family.ts'
import { gemma3 } from './gemma3.ts'

testDecoder(gemma3, 2)
