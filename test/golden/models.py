"""Logits, loss and every gradient of small Llamas by Transformers, in double precision, for configs of both generations.

Run: python test/golden/models.py  (torch, transformers 5, safetensors). Writes models/llama.json and models/llama.safetensors beside it. Weights are not stored:
both sides draw them from the generator in `draw` of reference_model.py, tensors in order of their names.
"""

import json
import pathlib

import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from reference_model import ROWS, batch, draw, written

OUT = pathlib.Path(__file__).parent / "models"
BASE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "intermediate_size": 48, "vocab_size": 67}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
CONFIGS = {
    "tied, grouped queries": {**BASE, "num_key_value_heads": 2, "rope_theta": 10000.0, "rope_scaling": None, "tie_word_embeddings": True, "torch_dtype": "float32"},
    "untied, attention biases, rope_parameters llama3": written(LlamaConfig.from_dict({**BASE, "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 500000.0, **LLAMA3}, "head_dim": 8}), "LlamaForCausalLM"),
    "head_dim beyond hidden / heads, rope_scaling linear": {**BASE, "num_key_value_heads": 4, "head_dim": 12, "tie_word_embeddings": True,
        "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "untied, biases everywhere, rope_scaling llama3": {**BASE, "vocab_size": 65, "intermediate_size": 44, "num_key_value_heads": 2, "attention_bias": True,
        "mlp_bias": True, "tie_word_embeddings": False, "rope_theta": 100000.0, "rope_scaling": LLAMA3},
    "sizes that are no multiples of 8, rope_parameters linear": {**BASE, "hidden_size": 36, "intermediate_size": 44, "num_attention_heads": 3, "num_key_value_heads": 3,
        "vocab_size": 70, "tie_word_embeddings": True, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}, "rms_norm_eps": 1e-6},
}

cases, tensors = [], {}
for i, (name, config) in enumerate(CONFIGS.items()):
    # As from_pretrained reads it: what a config.json says, in either generation.
    model = LlamaForCausalLM(LlamaConfig.from_dict(config)).double()
    params = dict(model.named_parameters())
    with torch.no_grad():
        for k, v in draw([(k, tuple(p.shape)) for k, p in params.items()], i + 1).items():
            params[k].copy_(v)
    ids, mask, labels = batch()
    out = model(input_ids=ids, attention_mask=mask)
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    loss.backward()
    tensors.update({f"{i}/{k}": p.grad.float().numpy() for k, p in params.items()})
    rows = [{"ids": row, "labels": labels[r, : len(row)].tolist(), "logits": [float(f"{v:.8g}") for v in out.logits[r, len(row) - 1].tolist()]} for r, row in enumerate(ROWS)]
    cases.append({"name": name, "config": config, "seed": i + 1, "loss": loss.item(), "rows": rows})

text = ",\n".join(json.dumps(c) for c in cases)
(OUT / "llama.json").write_text(f"[\n{text}\n]\n")
save_file(tensors, OUT / "llama.safetensors")
