"""Adapters made and saved by PEFT on a small random Llama, with the logits that PEFT computes; and the names, shapes and configs of PEFT's own adapters.

Run: python test/golden/peft_adapters.py  (torch, transformers 5, peft, safetensors). Writes peft/ beside it: model/, a folder for each adapter, expected.json and
names.json. Logits are of the saved float32 values, computed in double precision.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).parent / "peft"
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
TASK = {"task_type": "CAUSAL_LM"}
IDS = [[3], [5, 11, 2, 60, 33], [1, 7, 7, 40, 12, 63, 3, 9, 22, 31, 8]]


def llama(**more):
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=64,
                         max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(config if not more else LlamaConfig(**{**config.to_dict(), **more}))


torch.manual_seed(20240611)
base = llama()
with torch.no_grad():
    for name, p in base.named_parameters():
        p.copy_(1 + 0.1 * torch.randn_like(p) if "norm" in name else 0.2 * torch.randn_like(p))
base.save_pretrained(OUT / "model")
for extra in ("generation_config.json",):
    (OUT / "model" / extra).unlink(missing_ok=True)

QV = ["q_proj", "v_proj"]
VARIANTS = {
    "lora": LoraConfig(r=4, lora_alpha=8, target_modules=QV, **TASK),
    "lora-all-linear-r3": LoraConfig(r=3, lora_alpha=7.5, target_modules="all-linear", lora_dropout=0.1, **TASK),
    "lora-regex": LoraConfig(r=4, target_modules=r".*layers\.1\.(self_attn\.(k|o)_proj|mlp\.gate_proj)", init_lora_weights="gaussian", **TASK),
    "lora-paths": LoraConfig(r=4, target_modules=["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"], init_lora_weights=False, **TASK),
    "lora-one-layer": LoraConfig(r=4, target_modules=["up_proj", "k_proj"], layers_to_transform=[1], **TASK),
    "lora-f16": LoraConfig(r=4, target_modules=QV, **TASK),
    "lora-name-in-keys": LoraConfig(r=4, target_modules=QV, **TASK),
    "rslora": LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], use_rslora=True, **TASK),
    "dora": LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True, **TASK),
    "dora-magnitude-weight": LoraConfig(r=4, target_modules="all-linear", use_dora=True, use_rslora=True, **TASK),
    "pissa": LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "gate_proj"], init_lora_weights="pissa", **TASK),
    "pissa-converted": LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "gate_proj"], init_lora_weights="pissa", **TASK),
    "olora": LoraConfig(r=4, target_modules=["v_proj", "down_proj"], init_lora_weights="olora", **TASK),
    "olora-converted": LoraConfig(r=4, target_modules=["v_proj", "down_proj"], init_lora_weights="olora", **TASK),
    "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK),
    "ia3-no-feedforward": IA3Config(target_modules=["q_proj", "o_proj"], feedforward_modules=[], **TASK),
    "prompt-tuning": PromptTuningConfig(num_virtual_tokens=5, **TASK),
}


def plain_config(path):
    """As saved, without a path, names in order (PEFT writes a set's)."""
    config = json.loads(path.read_text())
    return {k: sorted(v) if k.endswith("_modules") and isinstance(v, list) else v for k, v in {**config, "base_model_name_or_path": "acme/tiny-llama"}.items()}


def rewrite(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


expected = {}
for i, (name, config) in enumerate(VARIANTS.items()):
    torch.manual_seed(100 + i)
    model = LlamaForCausalLM.from_pretrained(OUT / "model", dtype=torch.float32)
    peft = get_peft_model(model, config)
    folder = OUT / name
    with tempfile.TemporaryDirectory() as start:
        if name.endswith("-converted"):
            peft.peft_config["default"].init_lora_weights = True
            peft.save_pretrained(start)
            peft.peft_config["default"].init_lora_weights = config.init_lora_weights = name.split("-")[0]
        with torch.no_grad():
            for key, p in peft.named_parameters():
                if p.requires_grad:
                    p.add_((0.3 if "ia3" in key or "prompt" in key else 0.1) * torch.randn_like(p))
        peft.save_pretrained(folder, **({"path_initial_model_for_weight_conversion": start} if name.endswith("-converted") else {}))
    if name == "lora-f16":
        rewrite(folder, lambda t: {k: v.half() for k, v in t.items()})
        with torch.no_grad():
            for p in peft.parameters():
                if p.requires_grad:
                    p.copy_(p.half().float())
    if name == "lora-name-in-keys":
        rewrite(folder, lambda t: {k.replace(".weight", ".default.weight"): v for k, v in t.items()})
    if name == "dora-magnitude-weight":
        rewrite(folder, lambda t: {k + ".weight" if k.endswith("magnitude_vector") else k: v for k, v in t.items()})
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(plain_config(path), indent=2, sort_keys=True) + "\n")
    peft.eval().double()
    logits = []
    with torch.no_grad():
        for ids in IDS:
            logits.append([float(f"{v:.8g}") for v in peft(input_ids=torch.tensor([ids])).logits[0, -1].tolist()])
    expected[name] = {"logits": logits}
base.double()
with torch.no_grad():
    plain = [[float(f"{v:.8g}") for v in base(input_ids=torch.tensor([ids])).logits[0, -1].tolist()] for ids in IDS]
rows = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items())
(OUT / "expected.json").write_text(f'{{"ids": {json.dumps(IDS)}, "base": {json.dumps(plain)}, "adapters": {{\n{rows}\n}}}}\n')

NAMED = {
    "LORA": LoraConfig(r=4, lora_alpha=8, target_modules=QV, **TASK),
    "LORA_DoRA": LoraConfig(r=4, lora_alpha=8, target_modules=QV, use_dora=True, **TASK),
    "LORA_rslora": LoraConfig(r=4, lora_alpha=8, target_modules=QV, use_rslora=True, **TASK),
    "IA3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK),
    "PROMPT_TUNING": PromptTuningConfig(num_virtual_tokens=5, **TASK),
}
SHAPE = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "attention_bias": False, "tie_word_embeddings": False}
names = {}
for name, config in NAMED.items():
    peft = get_peft_model(llama(**SHAPE, num_hidden_layers=2), config)
    with tempfile.TemporaryDirectory() as folder:
        peft.save_pretrained(folder)
        saved = plain_config(pathlib.Path(folder) / "adapter_config.json")
    names[name] = {"shapes": {k: list(v.shape) for k, v in sorted(get_peft_model_state_dict(peft).items())}, "config": saved}
(OUT / "names.json").write_text(json.dumps({"model": {**SHAPE, "num_hidden_layers": 2}, "adapters": names}, indent=1, sort_keys=True) + "\n")
