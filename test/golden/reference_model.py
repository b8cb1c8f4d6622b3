"""A model of any causal family in double precision: its logits, loss and gradients on fixed rows, and runs of eight steps with LoRA and in full.

Used by the scripts that make fixtures for families. Weights are not stored: both sides draw them from the generator in `draw`, tensors in order of their names.
"""

import json
import tempfile

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

# Rows of ids; labels are the ids, but for these many of context at the start and single tokens that are not trained.
ROWS = [[5, 11, 2, 60, 33], [1, 7, 7, 40, 12, 64, 3, 9, 22], [3, 4, 5, 6, 7, 8, 30, 31, 32, 33, 34, 2]]
CONTEXT = [1, 4, 2]
NOT_TRAINED = (2, 5)
# AdamW with torch's betas and epsilon; the gradient clipped to norm 1.
RUN = {"steps": 8, "clip": 1.0, "weight_decay": 0.01}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
LR = {"lora": 1e-2, "full": 2e-3}
# The part of it that a model with more layers than two takes: the rounding of float32 grows with depth, and with each step.
DEEP = 0.1


def draw(names_and_shapes, state):
    """A linear congruential generator modulo 2^32; weights of norms (vectors that are no biases) around 1."""
    out = {}
    for name, shape in sorted(names_and_shapes):
        v = np.empty(int(np.prod(shape)))
        for i in range(v.size):
            state = (state * 1664525 + 1013904223) % 2**32
            v[i] = state / 2**32 * 2 - 1
        v = v * 0.2 + 1 if len(shape) == 1 and name.endswith("weight") else v * 0.35
        out[name] = torch.from_numpy(v.astype(np.float32).reshape(shape))
    return out


def written(config, architecture):
    """The config.json that this Transformers' save_pretrained writes: without fields that have its defaults."""
    config.architectures, config.dtype = [architecture], "float32"
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        with open(f"{folder}/config.json") as f:
            return json.load(f)


def model_of(config, seed):
    """The model of a config.json as from_pretrained reads it, in double precision and without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as f:
            json.dump(config, f)
        c = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(c, attn_implementation="eager", dtype=torch.float32).double().eval()
    params = dict(model.named_parameters())
    with torch.no_grad():
        for k, v in draw([(k, tuple(p.shape)) for k, p in params.items()], seed).items():
            params[k].copy_(v)
    return model


def batch():
    longest = max(map(len, ROWS))
    ids = torch.zeros(len(ROWS), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for r, row in enumerate(ROWS):
        ids[r, : len(row)] = torch.tensor(row)
        mask[r, : len(row)] = 1
        labels[r, CONTEXT[r] : len(row)] = torch.tensor(row[CONTEXT[r] :])
    labels[NOT_TRAINED] = -100
    return ids, mask, labels


def loss_of(model, ids, mask, labels):
    # Padding on the right is not masked: no token sees it, and it would itself see nothing where a window hides the rest.
    logits = model(input_ids=ids, attention_mask=torch.ones_like(mask)).logits
    return logits, torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def last_logits(logits):
    return [[float(f"{v:.8g}") for v in logits[r, len(row) - 1].tolist()] for r, row in enumerate(ROWS)]


def run(model, lr):
    """Loss and gradient norm of each step, and the logits afterwards."""
    b = batch()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=RUN["weight_decay"])
    steps = []
    for _ in range(RUN["steps"]):
        optimizer.zero_grad()
        _, loss = loss_of(model, *b)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params, RUN["clip"])
        optimizer.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item()})
    with torch.no_grad():
        return {"lr": lr, "steps": steps, "logits": last_logits(loss_of(model, *b)[0])}


def lora_run(config, seed, part):
    """A run with LoRA as PEFT starts it; and the adapter at its start, as PEFT saves it."""
    torch.manual_seed(seed)
    model = get_peft_model(model_of(config, seed), LoraConfig(task_type="CAUSAL_LM", **LORA)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        adapter_config = json.loads(open(f"{folder}/adapter_config.json").read())
        start = {k: v.astype(np.float32) for k, v in load_file(f"{folder}/adapter_model.safetensors").items()}
    # What was saved is what is trained: both rounded to float32.
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.copy_(p.float())
    return {**run(model, LR["lora"] * part), "adapter_config": adapter_config}, start


def write(out, name, configs):
    """out/name.json and out/name.safetensors: every config's case. Tensors are named case/gradient and case/lora/…"""
    cases, tensors = [], {}
    for i, (title, config) in enumerate(configs.items()):
        model = model_of(config, i + 1)
        ids, mask, labels = batch()
        logits, loss = loss_of(model, ids, mask, labels)
        loss.backward()
        tensors.update({f"{i}/{k}": p.grad.float().numpy() for k, p in model.named_parameters()})
        part = DEEP if model.config.num_hidden_layers > 2 else 1
        full = run(model_of(config, i + 1), LR["full"] * part)
        lora, start = lora_run(config, i + 1, part)
        tensors.update({f"{i}/lora/{k}": v for k, v in start.items()})
        rows = [{"ids": row, "labels": labels[r, : len(row)].tolist(), "logits": l} for (r, row), l in zip(enumerate(ROWS), last_logits(logits))]
        cases.append({"name": title, "config": config, "seed": i + 1, "loss": loss.item(), "rows": rows, "clip": RUN["clip"],
                      "weight_decay": RUN["weight_decay"], "full": full, "lora": lora})
    text = ",\n".join(json.dumps(c) for c in cases)
    (out / f"{name}.json").write_text(f"[\n{text}\n]\n")
    save_file(tensors, out / f"{name}.safetensors")
