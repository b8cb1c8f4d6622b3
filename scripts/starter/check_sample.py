"""Tunes the starter model on story-morals.jsonl with PEFT (LoRA r=8, alpha 16, all linear layers) and prints what it learned.

    python scripts/starter/check_sample.py [--lr 3e-3] [--steps 100]

A row is prompt + completion + EOS tokenised as one text (with the tokenizer's BOS); only the completion and EOS are trained. Rows in file
order after one seeded shuffle per epoch, batch 8, AdamW without decay, constant rate, gradient norm clipped at 1. Measured before and after
on the held-out file, and on the stories of plots that training never shows: exact match of the greedy completion up to EOS, and mean
negative log-likelihood of the completion's tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORED = -100


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def encode(tokenizer, row: dict) -> tuple[list[int], list[int]]:
    """(ids, labels): the part shared with the prompt alone has the label -100."""
    prompt = tokenizer(row["prompt"]).input_ids
    ids = tokenizer(row["prompt"] + row["completion"]).input_ids + [tokenizer.eos_token_id]
    shared = next((i for i, (a, b) in enumerate(zip(prompt, ids)) if a != b), len(prompt))
    return ids, [IGNORED] * shared + ids[shared:]


def collate(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels [rows, longest]; a causal model needs no mask for padding on the right."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [0] * (longest - len(i)) for i, _ in rows])
    return ids, torch.tensor([t + [IGNORED] * (longest - len(t)) for _, t in rows])


def loss_of(model, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


@torch.no_grad()
def measure(model, tokenizer, rows: list[dict]) -> dict:
    """{"nll", "exact", "shown"}: nats per trained token, share of exact greedy completions, and two of them."""
    model.eval()
    total = tokens = 0.0
    texts = []
    for row in rows:
        ids, labels = encode(tokenizer, row)
        n = sum(label != IGNORED for label in labels)
        total += float(loss_of(model, torch.tensor([ids]), torch.tensor([labels]))) * n
        tokens += n
        prompt = tokenizer(row["prompt"], return_tensors="pt")
        out = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt.input_ids.shape[1] :]
        texts.append(tokenizer.decode(out, skip_special_tokens=True))
    exact = sum(text == row["completion"] for text, row in zip(texts, rows)) / len(rows)
    return {"nll": round(total / tokens, 4), "exact": round(exact, 4), "shown": texts[:2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("public/starter"))
    parser.add_argument("--samples", type=Path, default=Path("public/samples"))
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    train = read(a.samples / "story-morals.jsonl")
    tests = {name: read(a.samples / f"story-morals.{name}.jsonl") for name in ("heldout", "newplots")}
    print(json.dumps({"rows": {"train": len(train), **{k: len(v) for k, v in tests.items()}}}))
    print(json.dumps({"before": {k: measure(model, tokenizer, v) for k, v in tests.items()}}), flush=True)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=a.lr, weight_decay=0.0)
    encoded = [encode(tokenizer, row) for row in train]
    rng, queue, began = random.Random(a.seed), [], time.time()
    for step in range(1, a.steps + 1):
        model.train()
        if len(queue) < a.batch:
            queue = rng.sample(range(len(encoded)), len(encoded))
        rows = [encoded[queue.pop()] for _ in range(a.batch)]
        loss = loss_of(model, *collate(rows))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step in (1, 10) or step % 25 == 0:
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "seconds": round(time.time() - began, 1)}), flush=True)
    print(json.dumps({"trained_parameters": sum(p.numel() for p in trained), "lr": a.lr, "steps": a.steps,
                      "after": {k: measure(model, tokenizer, v) for k, v in tests.items()}}), flush=True)


if __name__ == "__main__":
    main()
