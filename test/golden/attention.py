"""Causal grouped-query attention and its gradients by PyTorch's scaled_dot_product_attention, in float64 on float32 inputs.

Run: python test/golden/attention.py  (torch). Writes attention.json beside it. Inputs come from the test's own generator (randn in test/gpu.ts),
reproduced here, so that only expected values are stored; of large cases only every `stride`-th value is.
"""

import json
import math
import pathlib

import numpy as np
import torch


def randn(n, seed, std=1.0):
    """mulberry32 + Box-Muller: the values of randn in test/gpu.ts."""
    s = seed & 0xFFFFFFFF
    mask = 0xFFFFFFFF

    def u():
        nonlocal s
        s = (s + 0x6D2B79F5) & mask
        t = ((s ^ (s >> 15)) * (1 | s)) & mask
        t = ((t + (((t ^ (t >> 7)) * (61 | t)) & mask)) & mask) ^ t
        return (t ^ (t >> 14)) / 4294967296

    return np.array([std * math.sqrt(-2 * math.log(u() + 1e-12)) * math.cos(2 * math.pi * u()) for _ in range(n)], dtype=np.float32)


def case(batch, tokens, heads, kv, dim, starts="causal", stride=1, std=1.0):
    m, width = batch * tokens, (heads + 2 * kv) * dim
    seed = tokens * 31 + heads
    qkv = torch.tensor(randn(m * width, seed, std).reshape(batch, tokens, -1, dim)).double().transpose(1, 2).requires_grad_()
    dout = torch.tensor(randn(m * heads * dim, seed + 1).reshape(batch, tokens, heads, dim)).double().transpose(1, 2)
    t = torch.arange(tokens)
    if starts == "packed":
        # Segments of uneven lengths, different in each row of the batch.
        first = torch.stack([torch.tensor([max(c for c in range(b, i + 1) if (c - b) % (7 + b) == 0) if i >= b else 0 for i in range(tokens)]) for b in range(batch)])
    elif starts == "window":
        first = (t - 8).clamp(min=0).expand(batch, -1)
    else:
        first = torch.zeros(batch, tokens, dtype=torch.long)
    mask = (t[None, None, :] <= t[None, :, None]) & (t[None, None, :] >= first[:, :, None])
    q, k, v = qkv[:, :heads], qkv[:, heads : heads + kv], qkv[:, heads + kv :]
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=True)
    out.backward(dout)
    flat = lambda x: [float(f"{e:.7g}") for e in x.detach().transpose(1, 2).reshape(-1)[::stride].tolist()]
    return {"batch": batch, "tokens": tokens, "heads": heads, "kvHeads": kv, "headDim": dim, "kind": starts, "std": std, "seed": seed, "stride": stride,
            "starts": None if starts == "causal" else first.reshape(-1).tolist(), "out": flat(out), "dqkv": flat(qkv.grad)}


cases = [
    case(2, 1, 2, 1, 8),
    case(2, 5, 4, 2, 8),
    case(1, 33, 2, 2, 4),
    case(2, 33, 3, 1, 16, "packed", 5),
    case(1, 33, 2, 1, 80, "window", 11),
    case(1, 21, 2, 1, 12, "packed", 3),
    case(1, 10, 2, 1, 256, "causal", 13),
    case(2, 33, 2, 1, 16, "causal", 7, 4.0),
    case(2, 128, 4, 2, 64, "packed", 101),
    case(1, 128, 3, 3, 64, "causal", 101),
]
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"cases": cases}))
