"""Makes test/golden/starter.json: what Transformers says about public/starter, in float32 on the exported float16 weights.

    python test/golden/starter.py

- "tokens": texts with their ids, without and with the tokenizer's BOS, and the text that the ids decode to
- "logits": for a prompt, the 16 largest logits of the last position, and the logits of fixed vocabulary entries at fixed positions
- "nll": mean negative log-likelihood in nats of a text's tokens after the first, and of each
- "greedy": 60 greedy tokens after a prompt (stopping at EOS would be seen as id 0)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import AutoTokenizer, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "public" / "starter"
TEXTS = [
    "",
    "Once upon a time there was a curious fox named Pip.",
    "Q: What does a cow say?\nA: A cow says moo.",
    "  two  spaces,\ttabs\r\nand lines\n\n\n",
    "It's 12:05 - we'd pay $3.50 (or 1234567890)!",
    "Grüße aus Zürich, naïve café, façade",
    "Привет, мир! Γειά σου, κόσμε. שלום العالم",
    "こんにちは世界。你好,世界。안녕하세요",
    "🦊🌲 👩‍👩‍👧 🇨🇭 e\u0301 \u00a0\u200b\ufeff",
    "before<|endoftext|>after <|endoftext|> end",
    "<html>{\"a\": [1, 2.5e-3, null]}</html>",
    "\u0000\u0001\u007f\u0080\uffff",
]
PROMPT = "Once upon a time there was a little girl named Mia. Mia got a red kite for her birthday."
NLL_TEXT = ("In the forest lived a kind bear named Rusty. Rusty found a bush full of blue berries. Pip the fox came by, thin and hungry. "
            "\"May I have some?\" asked Pip. They picked the rest together.")
GREEDY = "A curious rabbit called Hazel lived near the forest."
POSITIONS, ENTRIES = (0, 3, 10, -1), (0, 1, 65, 256, 257, 300, 512, 777, 1024, 1500, 2000, 2047)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model, info = LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"the model folder does not load cleanly: {info}")
    model.eval()
    tokens = []
    for text in TEXTS:
        plain = tokenizer(text, add_special_tokens=False).input_ids
        tokens.append({"text": text, "ids": plain, "ids_special": tokenizer(text).input_ids, "decoded": tokenizer.decode(plain)})
    with torch.no_grad():
        ids = tokenizer(PROMPT).input_ids
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        top = logits[-1].topk(16)
        positions = [{"position": p % len(ids), "entries": list(ENTRIES), "logits": logits[p, list(ENTRIES)].tolist()} for p in POSITIONS]
        scored = tokenizer(NLL_TEXT).input_ids
        each = torch.nn.functional.cross_entropy(model(input_ids=torch.tensor([scored])).logits[0, :-1], torch.tensor(scored[1:]), reduction="none")
        start = tokenizer(GREEDY).input_ids
        sequence = list(start)
        for _ in range(60):
            sequence.append(int(model(input_ids=torch.tensor([sequence])).logits[0, -1].argmax()))
    new = sequence[len(start) :]
    golden = {
        "made_by": {"script": "test/golden/starter.py", "torch": torch.__version__, "transformers": transformers.__version__,
                    "tokenizers": tokenizers.__version__, "dtype": "float32 on float16 weights"},
        "sha256": {f: hashlib.sha256((MODEL / f).read_bytes()).hexdigest() for f in ("model.safetensors", "tokenizer.json", "config.json")},
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
        "logits": {"text": PROMPT, "ids": ids, "top_ids": top.indices.tolist(), "top_logits": top.values.tolist(), "positions": positions},
        "nll": {"text": NLL_TEXT, "ids": scored, "mean": float(each.mean()), "each": each.tolist()},
        "greedy": {"text": GREEDY, "ids": start, "new_ids": new, "new_text": tokenizer.decode(new)},
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: {golden['parameters']} parameters, mean NLL {golden['nll']['mean']:.4f}, greedy: {golden['greedy']['new_text']!r}")


if __name__ == "__main__":
    main()
