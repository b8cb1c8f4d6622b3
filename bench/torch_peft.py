"""The bench's SmolLM2-135M LoRA step by PyTorch, Transformers and PEFT on the same machine, to stand beside `npm run bench -- --node` (or in the page) on its GPU.

    npm run bench -- --node --only smollm2 --json etude.json
    python bench/torch_peft.py [--device cuda] [--model SmolLM2.gguf] --json torch.json     rows in the form of bench/report.ts
    python bench/torch_peft.py --into etude.json [...]                                      the same, added to Etude's file, from where docs/results.md shows them

What is measured is what bench/lora.ts measures: LoRA r = 8, alpha = 16 on all seven projections of a frozen base, gradient clipped to norm 1, AdamW, rows of
random tokens that are all labelled, from the same generator with the same seeds (mulberry32, 77 and up), the loss read back at every step; median of the rounds. float32 with
matmuls in full precision (no TF32), and bfloat16 weights and activations with float32 adapters. The weights are those of --model, by default the file beside
the checkout that `npm run bench` takes: then first losses are Etude's. Where it is not there, they are random ones of SmolLM2's shapes: the time is the same, the
loss is not. Needs torch, transformers, peft, and gguf to read the file.
"""

import argparse
import gc
import json
import math
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TQDM_DISABLE", "1")  # read as the libraries are imported

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMOLLM2 = ROOT.parent / "shared/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZES = [(1, 128), (1, 256), (4, 256)]
WARM_UP, ROUNDS, RANK, SEED = 3, 10, 8, 77


def mulberry32(seed):
    """Uniform in [0, 1), as `random` of bench/model.ts."""
    state = seed & 0xFFFFFFFF

    def imul(a, b):
        return (a * b) & 0xFFFFFFFF

    def draw():
        nonlocal state
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = imul(state ^ (state >> 15), state | 1)
        t ^= (t + imul(t ^ (t >> 7), t | 61)) & 0xFFFFFFFF
        return (t ^ (t >> 14)) / 2**32

    return draw


def tokens(batch, seq, vocabulary, seed):
    draw = mulberry32(seed)
    return torch.tensor([math.floor(draw() * vocabulary) for _ in range(batch * seq)]).view(batch, seq)


def model_of(path, dtype, device):
    if path:
        model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)
    else:
        torch.manual_seed(0)
        config = json.loads((ROOT / "test/configs/smollm2-135m.json").read_text())
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    # autocast_adapter_dtype keeps the adapter in float32 over a bfloat16 base, PEFT's default.
    return get_peft_model(model.to(device), lora).train()


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(model, batch, seq, rounds, device):
    """Milliseconds of each step, the first loss and the last."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=device.type == "cuda")
    times, losses = [], []
    for i in range(WARM_UP + rounds):
        ids = tokens(batch, seq, model.config.vocab_size, SEED + i).to(device)
        wait(device)
        began = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        wait(device)
        if i >= WARM_UP:
            times.append(1000 * (time.perf_counter() - began))
    return times, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", type=pathlib.Path, help="SmolLM2-135M's GGUF (default: the one beside the checkout, or random weights of its shapes)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here")
    parser.add_argument("--into", type=pathlib.Path, help="add the rows to this file of `npm run bench`, and print ratios")
    args = parser.parse_args()
    if args.model and not args.model.exists():
        parser.error(f"--model: there is no {args.model}")
    path = args.model or (SMOLLM2 if SMOLLM2.exists() else None)
    device = torch.device(args.device)
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(f"{name}; {versions}; {'weights of ' + path.name if path else 'random weights'}", file=sys.stderr)
    rows = []
    for base, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        for batch, seq in SIZES:
            model = model_of(path and path.resolve(), dtype, device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            times, losses = measure(model, batch, seq, args.rounds, device)
            ms = statistics.median(times)
            rows.append(
                {
                    "case": f"smollm2-lora-{batch}x{seq}",
                    "engine": "torch",
                    "base": base,
                    "batch": batch,
                    "seq": seq,
                    "rank": RANK,
                    "rounds": args.rounds,
                    "weights": "real" if path else "random",
                    "ms": ms,
                    "dispatches": None,
                    "submits": None,
                    "planned_bytes": None,
                    "allocated_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
                    "tokens_per_s": 1000 * batch * seq / ms,
                    "first_loss": losses[0],
                    "last_loss": losses[-1],
                }
            )
            print(f"{batch}x{seq} {base}: {ms:.1f} ms, first loss {losses[0]:.4f}", file=sys.stderr)
            del model
            gc.collect()  # a model's modules refer to each other: without this the next one may be made beside it
    if args.into:
        report = json.loads(args.into.read_text())
        for own in report["rows"]:
            for row in rows:
                if own["engine"] == "etude" and own["case"] == row["case"]:
                    real = own.get("weights") == row["weights"] == "real"
                    losses = f"; first losses differ by {abs(own['first_loss'] - row['first_loss']):.1e}" if real else ""
                    ratio = own["ms"] / row["ms"]
                    print(f"{row['case']}: Etude ({own['base']}) takes {ratio:.2f} times as long as PyTorch + PEFT ({row['base']}){losses}")
        report["rows"] = [r for r in report["rows"] if r["engine"] != "torch"] + rows
        report["torch"] = f"{name}; {versions}"
        args.into.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if args.json:
        args.json.write_text(json.dumps({"machine": name, "adapter": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
