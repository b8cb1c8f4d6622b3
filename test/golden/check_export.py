"""What the real libraries make of an exported folder.

    python test/golden/check_export.py MODEL ADAPTER --ids 1,2,3     PeftModel.from_pretrained(MODEL, ADAPTER)
    python test/golden/check_export.py MODEL --ids 1,2,3             AutoModelForCausalLM.from_pretrained(MODEL)

Prints {"ids": […], "logits": […]} of the last position, in float32. Fails on any warning about missing, unexpected or newly initialised weights.
Needs torch, transformers and peft.
"""

import argparse
import json
import sys
import warnings

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

FAULTS = ("missing", "unexpected", "not initialized", "newly initialized", "mismatch")


def logits_of(model_folder, adapter_folder, ids):
    """Logits [vocab] after the last of `ids`. Raises RuntimeError where a weight was not found or not used."""
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, info = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, output_loading_info=True)
        if adapter_folder:
            model = PeftModel.from_pretrained(model, adapter_folder)
    faults = [str(w.message) for w in caught if any(word in str(w.message).lower() for word in FAULTS)]
    faults += [f"{k}: {sorted(v)}" for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v]
    if faults:
        raise RuntimeError("\n".join(faults))
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter", nargs="?")
    parser.add_argument("--ids", required=True, type=lambda s: [int(v) for v in s.split(",")])
    args = parser.parse_args()
    try:
        print(json.dumps({"ids": args.ids, "logits": logits_of(args.model, args.adapter, args.ids)}))
    except RuntimeError as e:
        sys.exit(str(e))
