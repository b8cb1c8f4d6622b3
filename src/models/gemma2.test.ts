/** Gemma 2 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { testDecoder } from '../../test/decoder_family.ts'
import { gemma2 } from './gemma2.ts'

testDecoder(gemma2)
