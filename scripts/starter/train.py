"""Trains the starter model on the generated grammar: plain PyTorch on the CPU, fixed seed.

    nice -n 19 python scripts/starter/train.py --steps 4000 --checkpoint /tmp/starter.pt

Muon (K. Jordan 2024, as torch.optim.Muon) with decay 0.1 on the matrices of the blocks and AdamW (betas 0.9/0.95) on embedding and norms, at
one rate: linear warm-up, then cosine to zero; gradient norm clipped at 1; float32. In the same number of steps it was ahead of AdamW on
everything (README.md). Prints one JSON line per `--log` steps and, at the end, the loss on documents of another seed and some samples.
Resumes from the checkpoint if it exists (with fresh documents, so a resumed run is not bit for bit an uninterrupted one).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import questions
from corpus import IGNORED, Mix, batches
from export import export
from model import CONFIG, Llama

PROMPTS = ("", "Once upon a time", "Write a story about a fox named Zelko.\n", "Tom: Hello, Mia!", "Q: Why do we sleep?\nA:",
           "Once upon a time there was a girl named Priyanka. She had a brother")


def loss_of(model: Llama, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats over the targets that are not ignored; both int64 [B, T]."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def evaluate(model: Llama, tokenizer: Tokenizer, seed: int = 4242, count: int = 8) -> float:
    """Mean loss on rows drawn with a seed that training does not use."""
    source = batches(tokenizer, seed, CONFIG["max_position_embeddings"], 16)
    return sum(float(loss_of(model, *map(torch.from_numpy, next(source)))) for _ in range(count)) / count


def answered(model: Llama, tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> float:
    """Share of questions answered word for word, greedily."""
    right = 0
    for q, a in pairs:
        prompt = [0] + tokenizer.encode(f"Q: {q}\nA:", add_special_tokens=False).ids
        out = model.generate(prompt, 30, 0.0, torch.Generator(), 0)[len(prompt) :]
        right += tokenizer.decode(out).split("\n")[0].strip() == a
    return right / len(pairs)


def report(model: Llama, tokenizer: Tokenizer) -> None:
    """Prints the figures of the model card and samples at temperature 0.8."""
    rng = random.Random(6)
    figures = {"eval_loss": evaluate(model, tokenizer)}
    everything = [pair for family in questions.FACTS.values() for pair in family]
    figures["facts"] = answered(model, tokenizer, rng.sample(everything, 120))
    figures["new_sums"] = answered(model, tokenizer, [(q, a) for q, a, held in questions.sums() if held])
    figures["new_sizes"] = answered(model, tokenizer, rng.sample([(q, a) for q, a, held in questions.sizes() if held], 80))
    print(json.dumps({k: round(v, 4) for k, v in figures.items()}), flush=True)
    generator = torch.Generator().manual_seed(1)
    for prompt in PROMPTS:
        ids = model.generate([0] + tokenizer.encode(prompt, add_special_tokens=False).ids, 180, 0.8, generator, 0)
        print("-----\n" + tokenizer.decode(ids), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("public/starter"))
    parser.add_argument("--checkpoint", type=Path, default=Path("/tmp/starter.pt"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--stop", type=int, help="end here, before the schedule is over, to go on with other settings")
    parser.add_argument("--questions", type=float, default=Mix.questions, help="share of documents that are question lists")
    parser.add_argument("--pairs", default="1,1,2,3,4", help="how many questions such a list has, drawn from these")
    parser.add_argument("--invented", type=float, default=Mix.invented, help="share of names made of random syllables")
    parser.add_argument("--log", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    tokenizer = Tokenizer.from_file(str(a.out / "tokenizer.json"))
    model = Llama()
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), **vars(a)}, default=str), flush=True)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() == 1 or "embed" in name]
    optimizers = [torch.optim.Muon(matrices, lr=a.lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(others, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    mix = Mix(a.questions, tuple(int(n) for n in a.pairs.split(",")), a.invented)
    compiled = torch.compile(loss_of)
    start = 0
    if a.checkpoint.exists():
        state = torch.load(a.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start = state["step"]
    source = batches(tokenizer, a.seed + start, CONFIG["max_position_embeddings"], a.batch, mix)
    began, tokens, total = time.time(), 0, 0.0
    stop = min(a.steps, a.stop or a.steps)
    for step in range(start, stop):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - a.warmup) / max(1, a.steps - a.warmup)))
        rate = a.lr * ((step + 1) / a.warmup if step < a.warmup else cosine)
        inputs, targets = map(torch.from_numpy, next(source))
        loss = compiled(model, inputs, targets)
        model.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        tokens += int((targets != IGNORED).sum())
        total += float(loss.detach())
        if (step + 1) % a.log == 0:
            print(json.dumps({"step": step + 1, "loss": round(total / a.log, 4), "grad_norm": round(float(norm), 3), "lr": round(rate, 6),
                              "tokens": tokens, "seconds": round(time.time() - began)}), flush=True)
            total = 0.0
        if (step + 1) % 200 == 0 or step + 1 == stop:
            torch.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1}, a.checkpoint)
    export(model, a.out)
    report(model, tokenizer)


if __name__ == "__main__":
    main()
