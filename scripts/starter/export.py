"""Writes the trained starter model as a Hugging Face folder: config.json, generation_config.json, model.safetensors (float16)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import CONFIG, Llama


def export(model: Llama, out: Path) -> None:
    """Stores the weights in float16 under the names of Transformers' LlamaForCausalLM; the head is tied, so it is not stored."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().to(torch.float16).contiguous() for name, p in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    generation = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
