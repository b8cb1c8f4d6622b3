"""Causal grouped-query attention and its gradients by PyTorch's scaled_dot_product_attention, in float64 on float32 inputs; with soft-capped scores
as Transformers' Gemma 2 has them (modeling_gemma2.py, eager_attention_forward), a sliding window (masking_utils.py, sliding_window_overlay), and
queries and keys that are rotated first (modeling_llama.py, apply_rotary_pos_emb), the gradient being by the unrotated ones.

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


def rotate(x, pairs, mscale):
    """Half-split rotation of the leading 2 * pairs dimensions of x [batch, heads, tokens, dim], token t at position 3 t + 1."""
    inv = torch.tensor(np.float32(10000.0) ** (-np.arange(pairs, dtype=np.float32) / np.float32(pairs)))
    position = 3 * torch.arange(x.shape[2]) + 1
    angle = (position[:, None].float() * inv).double()
    cos, sin = angle.cos() * mscale, angle.sin() * mscale
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1), inv


def case(batch, tokens, heads, kv, dim, starts="causal", stride=1, std=1.0, softcap=None, window=None, scale=None, pairs=0, mscale=1.0):
    m, width = batch * tokens, (heads + 2 * kv) * dim
    seed = tokens * 31 + heads
    qkv = torch.tensor(randn(m * width, seed, std).reshape(batch, tokens, -1, dim)).double().transpose(1, 2).requires_grad_()
    dout = torch.tensor(randn(m * heads * dim, seed + 1).reshape(batch, tokens, heads, dim)).double().transpose(1, 2)
    t = torch.arange(tokens)
    if starts == "packed":
        # Segments of uneven lengths, different in each row of the batch.
        first = torch.stack([torch.tensor([max(c for c in range(b, i + 1) if (c - b) % (7 + b) == 0) if i >= b else 0 for i in range(tokens)]) for b in range(batch)])
    elif starts == "ragged":
        first = torch.repeat_interleave(torch.tensor([0, 1, 211, 214, 278, 501]), torch.tensor([1, 210, 3, 64, 223, 99])).expand(batch, -1)
    elif starts == "window":
        first = (t - 8).clamp(min=0).expand(batch, -1)
    else:
        first = torch.zeros(batch, tokens, dtype=torch.long)
    mask = (t[None, None, :] <= t[None, :, None]) & (t[None, None, :] >= first[:, :, None])
    if window is not None:
        mask = mask & (t[None, None, :] > t[None, :, None] - window)
    q, k, v = qkv[:, :heads], qkv[:, heads : heads + kv], qkv[:, heads + kv :]
    extra = {}
    if pairs:
        (q, inv), (k, _) = rotate(q, pairs, mscale), rotate(k, pairs, mscale)
        extra |= {"mscale": mscale, "invFreq": [float(f"{e:.9g}") for e in inv.tolist()]}
    if softcap is None:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=True, scale=scale)
    else:
        group = heads // kv
        s = q @ k.repeat_interleave(group, 1).transpose(2, 3) * (scale or dim**-0.5)
        s = softcap * torch.tanh(s / softcap)
        out = torch.softmax(s.masked_fill(~mask[:, None], -torch.inf), -1) @ v.repeat_interleave(group, 1)
    extra |= {k: v for k, v in {"softcap": softcap, "window": window, "scale": scale}.items() if v is not None}
    out.backward(dout)
    flat = lambda x: [float(f"{e:.7g}") for e in x.detach().transpose(1, 2).reshape(-1)[::stride].tolist()]
    return {"batch": batch, "tokens": tokens, "heads": heads, "kvHeads": kv, "headDim": dim, "kind": starts, "std": std, "seed": seed, "stride": stride,
            "starts": None if starts == "causal" else first.reshape(-1).tolist(), "out": flat(out), "dqkv": flat(qkv.grad), **extra}


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
    case(2, 37, 4, 2, 16, "causal", 7, 2.0, softcap=5.0, scale=0.3),
    case(2, 45, 2, 1, 8, "packed", 5, window=10),
    case(1, 70, 2, 1, 64, "causal", 31, 2.0, softcap=50.0, window=33, scale=0.09),
    case(1, 19, 2, 1, 256, "packed", 29, softcap=50.0, window=4, scale=224**-0.5),
    case(1, 70, 3, 3, 16, "causal", 11, window=1),
    case(2, 21, 4, 2, 16, "packed", 3, pairs=8),
    case(1, 40, 2, 1, 64, "causal", 23, pairs=32, mscale=1.2),
    case(1, 17, 2, 1, 12, "causal", 1, pairs=3, mscale=0.8),
    case(1, 17, 2, 2, 80, "causal", 13, pairs=16),
    case(1, 600, 2, 1, 16, "ragged", 61),
    case(1, 24, 2, 1, 256, "causal", 29, 1.5, pairs=128, softcap=50.0, window=9, scale=0.07),
]
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps({"cases": cases}))
