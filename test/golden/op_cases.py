"""What the fixtures of ops in layer_ops/ are written with."""

import json
import pathlib

import torch

OUT = pathlib.Path(__file__).parent / "layer_ops"
OUT.mkdir(exist_ok=True)


def randn(*shape, std=1.0):
    return (torch.randn(*shape) * std).double().requires_grad_()


def plain(v):
    if isinstance(v, torch.Tensor):
        v = v.detach().flatten()
        return v.tolist() if v.dtype == torch.int64 else [float(f"{x:.8g}") for x in v.tolist()]
    return v


def save(name, cases):
    text = ",\n".join(json.dumps({k: plain(v) for k, v in c.items()}) for c in cases)
    (OUT / f"{name}.json").write_text(f"[\n{text}\n]\n")
