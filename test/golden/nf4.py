"""Writes test/golden/io/nf4.json: float16 weights, and what bitsandbytes makes of them with NF4, blocks of 64 and double quantisation.

Needs: numpy, torch, bitsandbytes.  Run: python test/golden/nf4.py
"""
import base64
import json
import pathlib

import bitsandbytes
import bitsandbytes.functional as F
import numpy as np
import torch

b64 = lambda a: base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()
torch.manual_seed(7)
cases = []
# More than 256 blocks; a last block of 32; a block of zeros and an outlier; one block alone.
for name, shape in [("two scales of maxima", (65, 256)), ("a half block", (3, 32)), ("zeros and an outlier", (8, 64)), ("one block", (1, 64))]:
    w = (torch.randn(shape) * 0.05).half()
    if name.startswith("zeros"):
        w[3] = 0
        w[5, 7] = 4
    q, state = F.quantize_4bit(w.float(), blocksize=64, quant_type="nf4", compress_statistics=True)
    q = q.flatten().numpy()
    codes = np.stack([q >> 4, q & 15], 1).flatten()[: w.numel()].astype(np.uint8)
    maxima = (F.dequantize_blockwise(state.absmax, state.state2) + state.offset).float().numpy()
    cases.append({"name": name, "count": w.numel(), "float16": b64(w.numpy()), "codes": b64(codes), "maxima": b64(state.absmax.numpy()),
                  "map": b64(state.state2.code.numpy()), "float32": b64(maxima)})  # fmt: skip
out = pathlib.Path(__file__).parent / "io" / "nf4.json"
out.write_text(json.dumps({"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__, "cases": cases}) + "\n")
