"""Writes test/golden/io/: small files made by the reference libraries, and what those libraries read from them.

Needs: numpy, torch, safetensors, gguf.  Run: python test/golden/io_formats.py
- dequantize.json  random blocks of every GGML type Etude reads, with the float32 values of gguf.quants.dequantize
- float16.json     float32 bit patterns with their float16 and bfloat16 bits, by torch
- tiny.safetensors a file by safetensors.torch.save
- tiny.gguf        a file by gguf.GGUFWriter: every metadata type, nested arrays, several tensor types
"""
import base64
import json
import pathlib

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import save

OUT = pathlib.Path(__file__).parent / "io"
OUT.mkdir(exist_ok=True)
rng = np.random.default_rng(20240607)
b64 = lambda a: base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()

# Where the f16 scales lie in a block: random bytes there could be NaN or infinite, so finite ones of a usual size are written.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
cases = []
for name, at in SCALES.items():
    kind = GGMLQuantizationType[name]
    block, size = GGML_QUANT_SIZES[kind]
    blocks = 2 if block == 256 else 4
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    for o in at:
        data[:, o : o + 2] = rng.normal(0, 0.02, (blocks, 1)).astype(np.float16).view(np.uint8)
    values = dequantize(data.reshape(1, -1), kind).astype(np.float32)
    cases.append({"type": name, "count": blocks * block, "bytes": b64(data), "float32": b64(values)})
for name in ["F16", "BF16"]:
    bits = rng.integers(0, 0x7000, 64, dtype=np.uint16)
    dtype = torch.float16 if name == "F16" else torch.bfloat16
    values = torch.from_numpy(bits.view(np.int16)).view(dtype).to(torch.float32).numpy()
    cases.append({"type": name, "count": 64, "bytes": b64(bits), "float32": b64(values)})
(OUT / "dequantize.json").write_text(json.dumps(cases, indent=1))

# Random bit patterns, and those where rounding is hard: ties, the edges of subnormals and of overflow.
hard = [0x00000000, 0x80000000, 0x33000000, 0x33000001, 0x33800000, 0x387FC000, 0x387FE000, 0x387FFFFF, 0x38800000, 0x3F801000, 0x3F803000,
        0x3F801001, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F7F8000, 0x00000001]
bits = np.concatenate([np.array(hard, dtype=np.uint32), (rng.integers(0, 2**32, 200, dtype=np.uint32)), rng.normal(0, 1, 200).astype(np.float32).view(np.uint32),
                       rng.normal(0, 1e-6, 200).astype(np.float32).view(np.uint32)])
bits = bits[~np.isnan(bits.view(np.float32))]
t = torch.from_numpy(bits.view(np.float32))
(OUT / "float16.json").write_text(json.dumps({
    "float32": b64(bits),
    "float16": b64(t.to(torch.float16).view(torch.int16).numpy()),
    "bfloat16": b64(t.to(torch.bfloat16).view(torch.int16).numpy()),
}, indent=1))

g = torch.Generator().manual_seed(7)
(OUT / "tiny.safetensors").write_bytes(save({
    "b.weight": torch.randn(3, 4, generator=g), "a.weight": torch.randn(2, 2, generator=g),
    "half": torch.randn(5, generator=g).to(torch.float16), "brain": torch.randn(2, 3, generator=g).to(torch.bfloat16),
    "ids": torch.arange(3), "flag": torch.tensor([True, False, True]), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "é": torch.ones(1),
}, {"format": "pt"}))

w = GGUFWriter(OUT / "tiny.gguf", "llama")
w.add_uint8("t.u8", 200); w.add_int8("t.i8", -100); w.add_uint16("t.u16", 60000); w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000); w.add_int32("t.i32", -2000000000); w.add_uint64("t.u64", 2**53 - 1); w.add_int64("t.i64", -(2**53 - 1))
w.add_float32("t.f32", 0.5); w.add_float64("t.f64", 0.1); w.add_bool("t.bool", True); w.add_string("t.string", "naïve 日本 🎉")
w.add_array("t.strings", ["a", "", "Ġthe", "日本"]); w.add_array("t.ints", [1, -2, 3]); w.add_array("t.floats", [0.5, -1.5]); w.add_array("t.bools", [True, False])
w.add_key_value("t.nested", [[1, 2], [3]], GGUFValueType.ARRAY, GGUFValueType.ARRAY)
weights = rng.normal(0, 0.1, (4, 64)).astype(np.float32)
w.add_tensor("f32", weights)
w.add_tensor("f16", weights.astype(np.float16))
w.add_tensor("q8", quantize(weights, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
w.add_tensor("q4", quantize(weights, GGMLQuantizationType.Q4_1), raw_dtype=GGMLQuantizationType.Q4_1)
w.add_tensor("norm", weights[0])
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
