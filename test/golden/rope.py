"""Rotary frequencies of Transformers' modeling_rope_utils for configs of both generations, and rotations by apply_rotary_pos_emb.

Run: python test/golden/rope.py  (torch, transformers 5). Writes rope.json beside it.
"""

import json
import pathlib

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

BASE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
LONG = {"short_factor": [1 + i / 50 for i in range(16)], "long_factor": [1.5 + i * i / 8 for i in range(16)]}
CONFIGS = [
    {**BASE, "rope_theta": 10000.0},
    {**BASE, "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}},
    {**BASE, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    {**BASE, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.5}},
    {**BASE, "rope_theta": 10000.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    {**BASE, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    {**BASE, "head_dim": 128, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", **LLAMA3}},
    {**BASE, "rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}},
    {**BASE, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False}},
    {**BASE, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "attention_factor": 1.5}},
    {**BASE, "rope_theta": 10000.0, "original_max_position_embeddings": 512, "rope_scaling": {"type": "longrope", **LONG}},
    {**BASE, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "longrope", "factor": 3.0, "original_max_position_embeddings": 512, "partial_rotary_factor": 0.5, "attention_factor": 1.25,
                                 "short_factor": LONG["short_factor"][:8], "long_factor": LONG["long_factor"][:8]}},
]


def frequencies():
    out = []
    for raw in CONFIGS:
        for length in (None, 3000):
            config = LlamaConfig(**json.loads(json.dumps(raw)))
            kind = config.rope_parameters["rope_type"]
            if kind == "default":
                inv, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
            elif length and kind not in ("dynamic", "longrope"):
                continue
            elif kind == "longrope" and not length:
                length = 512
                inv, factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=length)
            else:
                inv, factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=length)
            out.append({"config": raw, "headDim": config.head_dim, "sequenceLength": length, "invFreq": inv.tolist(), "attentionFactor": factor})
    return out


def rotation(head_dim, q_heads, k_heads, rows, seed):
    """Row layout [q heads | k heads | v heads]; gradient of sum(y * seed)."""
    g = torch.Generator().manual_seed(seed)
    width = (q_heads + 2 * k_heads) * head_dim
    x = torch.randn(rows, width, generator=g).requires_grad_()
    dy = torch.randn(rows, width, generator=g)
    position = torch.tensor([(i * 37) % 5000 for i in range(rows)])
    inv = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angle = position[:, None].float() * inv
    emb = torch.cat((angle, angle), -1).double()
    heads = x.double().view(rows, -1, head_dim).transpose(0, 1)[None]
    cos, sin = emb.cos()[None], emb.sin()[None]
    q, k = apply_rotary_pos_emb(heads[:, :q_heads], heads[:, q_heads : q_heads + k_heads], cos, sin)
    y = torch.cat((q, k, heads[:, q_heads + k_heads :]), 1)[0].transpose(0, 1).reshape(rows, width)
    y.backward(dy.double())
    flat = lambda t: [round(v, 7) for v in t.detach().flatten().tolist()]
    return {
        "headDim": head_dim, "heads": q_heads + k_heads, "rows": rows, "width": width, "positions": position.tolist(), "invFreq": inv.tolist(),
        "x": flat(x), "dy": flat(dy), "y": flat(y), "dx": flat(x.grad),
    }


out = {"frequencies": frequencies(), "rotations": [rotation(8, 2, 1, 5, 1), rotation(12, 2, 1, 3, 2), rotation(16, 1, 1, 33, 3)]}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out))
