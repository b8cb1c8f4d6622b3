"""An adapter of the proof run in the real libraries: PEFT over Transformers' model, dequantised from the same GGUF, in float32 on the CPU. Compares logits
after held-out prompts with the engine's, and measures the held-out loss with and without the adapter.

    python test/golden/check_proof.py MODEL.gguf ROWS.jsonl ADAPTER [--seq 128]

Runs check_proof.ts for the engine's side (needs Node). Prints JSON; exits 1 where logits differ by more than TOLERANCE. Needs torch, transformers, peft, gguf.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TQDM_DISABLE", "1")  # read as the libraries are imported

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Both sides multiply the same dequantised values; sums of up to 1536 products through 30 layers in another order, on logits of about 20: 7e-5 was seen.
TOLERANCE = 1e-3
LOSS_TOLERANCE = 2e-3

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("rows", type=pathlib.Path)
parser.add_argument("adapter", type=pathlib.Path)
parser.add_argument("--seq", type=int, default=128)
args = parser.parse_args()


def loss(model, rows):
    """Mean cross-entropy over all labelled tokens."""
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row["ids"]])).logits[0, :-1]
            labels = torch.tensor(row["labels"][1:])
            total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum").item()
            count += int((labels != -100).sum())
    return total / count


with tempfile.TemporaryDirectory() as temporary:
    out = pathlib.Path(temporary) / "ours.json"
    paths = [str(p.resolve()) for p in (args.model, args.rows, args.adapter)]
    subprocess.run(
        ["node", "scripts/run.mjs", "test/golden/check_proof.ts", *paths, str(args.seq), str(out)], cwd=ROOT, check=True, stdout=sys.stderr
    )
    ours = json.loads(out.read_text())

transformers.utils.logging.disable_progress_bar()
base = AutoModelForCausalLM.from_pretrained(str(args.model.resolve().parent), gguf_file=args.model.name, dtype=torch.float32).eval()
before = loss(base, ours["rows"])
tuned = PeftModel.from_pretrained(base, str(args.adapter)).eval()
difference, largest = 0.0, 0.0
with torch.no_grad():
    for prompt in ours["prompts"]:
        theirs = tuned(input_ids=torch.tensor([prompt["ids"]])).logits[0, -1]
        difference = max(difference, (theirs - torch.tensor(prompt["logits"])).abs().max().item())
        largest = max(largest, theirs.abs().max().item())
result = {
    "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
    "prompts": len(ours["prompts"]),
    "max_logit_difference": difference,
    "largest_logit": largest,
    "tolerance": TOLERANCE,
    "loss_before": before,
    "loss_after": loss(tuned, ours["rows"]),
    "loss_tolerance": LOSS_TOLERANCE,
}
print(json.dumps(result))
sys.exit(0 if difference <= TOLERANCE else 1)
