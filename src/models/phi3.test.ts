/** Phi-3 against Transformers and PEFT (test/golden/decoders.py; tolerances in test/family_golden.ts). */
import { testDecoder } from '../../test/decoder_family.ts'
import { phi3 } from './phi3.ts'

testDecoder(phi3, 1)
