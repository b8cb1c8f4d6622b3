"""Every method's export in the real libraries: trains each for a few steps (check_exports.ts, on the GPU), loads the adapter in PEFT and the merged model in
Transformers, and compares the logits of the last position.

Run from anywhere: python test/golden/check_exports.py MODEL [--keep FOLDER]
MODEL is a folder with float weights, as ../shared/models/stories260K or public/starter, or the name of a small seeded one of
absolute_models.py or decoders.py. Prints a table; exits 1 where a difference is above its
TOLERANCE or a weight is missing. Needs Node beside torch, transformers and peft.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import absolute_models
import decoders
from check_export import logits_of
from reference_model import model_of

TINY = {**absolute_models.TINY, **decoders.TINY}
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Logits around 10, float32 on both sides: 1e-5 is expected. A merged weight is rounded to the type of the model's weights: 11 or 8 bits.
TOLERANCE = {"float32": 3e-4, "float16": 1e-2, "bfloat16": 8e-2}


def tolerance(merged):
    config = json.loads((pathlib.Path(merged) / "config.json").read_text())
    return TOLERANCE[config.get("dtype", config.get("torch_dtype"))]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--keep", type=pathlib.Path, help="write the exports here and leave them")
args = parser.parse_args()

with tempfile.TemporaryDirectory() as temporary:
    out = (args.keep or pathlib.Path(temporary)).resolve()
    out.mkdir(parents=True, exist_ok=True)
    model = pathlib.Path(args.model).resolve()
    if args.model in TINY:
        model = out / "model"
        model_of(*TINY[args.model]).float().save_pretrained(model)
    subprocess.run(["node", "scripts/run.mjs", "test/golden/check_exports.ts", str(model), str(out)], cwd=ROOT, check=True)
    done = json.loads((out / "cases.json").read_text())
    ids, failed = done["ids"], 0
    print(f"{'method':14} {'options':34} {'PEFT':>10} {'merged':>10}")
    for case in done["cases"]:
        cells = []
        for loaded, folders in (("adapter", (model, case["adapter"])), ("merged", (case["merged"], None))):
            if case[loaded] is None:
                cells.append("-")
                continue
            try:
                worst = max(abs(a - b) for a, b in zip(logits_of(*folders, ids), case["logits"], strict=True))
                cells.append(f"{worst:.1e}")
                failed += worst > (tolerance(case["merged"]) if loaded == "merged" else TOLERANCE["float32"])
            except RuntimeError as e:
                cells.append("refused")
                failed += 1
                print(e, file=sys.stderr)
        print(f"{case['method']:14} {json.dumps(case['options']):34} {cells[0]:>10} {cells[1]:>10}")
sys.exit(1 if failed else 0)
