"""Qwen2, Qwen3, Phi-3, Gemma 2 and Gemma 3 by Transformers and PEFT, for configs of both generations; and each as llama.cpp's converter writes it.

Run: python test/golden/decoders.py [family …]  (torch, transformers 5, peft, safetensors, gguf). Writes models/<family>.{json,safetensors,gguf} beside it.
"""

import math
import pathlib
import sys

import gguf
import torch
from reference_model import model_of, write, written
from transformers import Gemma2Config, Gemma3TextConfig, Phi3Config, Qwen2Config, Qwen3Config

OUT = pathlib.Path(__file__).parent / "models"


def v4(architecture, model_type, **fields):
    """As files of Transformers 4 have them."""
    return {"architectures": [architecture], "model_type": model_type, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True, "torch_dtype": "bfloat16",
            "vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, **fields}  # fmt: skip


SIZES = dict(vocab_size=66, hidden_size=36, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, max_position_embeddings=64)
FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.5, 2.0, 3.0, 4.5]}

FAMILIES = {
    "qwen2": {
        "fields of Transformers 4, tied": v4("Qwen2ForCausalLM", "qwen2", hidden_act="silu", max_window_layers=21, rms_norm_eps=1e-6, rope_theta=1e6, sliding_window=32768,
            tie_word_embeddings=True, use_sliding_window=False),
        "fields of Transformers 5, untied, a window in the last layer, yarn": written(Qwen2Config(**SIZES, pad_token_id=7, use_sliding_window=True, sliding_window=4, max_window_layers=1,
            rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}), "Qwen2ForCausalLM"),
    },
    "qwen3": {
        "fields of Transformers 4, tied": v4("Qwen3ForCausalLM", "qwen3", attention_bias=False, head_dim=12, hidden_act="silu", max_window_layers=2, rms_norm_eps=1e-6,
            rope_scaling=None, rope_theta=1e6, sliding_window=None, tie_word_embeddings=True, use_sliding_window=False),
        "fields of Transformers 5, untied, attention biases, windows by layer types": written(Qwen3Config(**SIZES, head_dim=20, attention_bias=True, use_sliding_window=True,
            sliding_window=3, layer_types=["sliding_attention", "full_attention"], rope_parameters={"rope_type": "linear", "rope_theta": 1e5, "factor": 2.0}), "Qwen3ForCausalLM"),
    },
    "phi3": {
        "fields of Transformers 4, untied": v4("Phi3ForCausalLM", "phi3", embd_pdrop=0.0, hidden_act="silu", pad_token_id=0, original_max_position_embeddings=64, resid_pdrop=0.0,
            rms_norm_eps=1e-5, rope_scaling=None, rope_theta=1e4, sliding_window=5, tie_word_embeddings=False),
        "fields of Transformers 4, longrope within the original context": v4("Phi3ForCausalLM", "phi3", embd_pdrop=0.0, hidden_act="silu", pad_token_id=0, max_position_embeddings=128,
            original_max_position_embeddings=32, resid_pdrop=0.0, rms_norm_eps=1e-5, rope_scaling={"type": "longrope", **FACTORS}, rope_theta=1e4, sliding_window=262144,
            tie_word_embeddings=False),
        # Rotary dimensions 0.75 of 12: four pairs and a rest.
        "fields of Transformers 5, longrope beyond the original context, a part of each head rotated, tied": written(Phi3Config(**SIZES, original_max_position_embeddings=4,
            rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.6667, **FACTORS}, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
            eos_token_id=2), "Phi3ForCausalLM"),
    },
    "gemma2": {
        "fields of Transformers 4": v4("Gemma2ForCausalLM", "gemma2", attention_bias=False, attn_logit_softcapping=6.0, cache_implementation="hybrid",
            final_logit_softcapping=9.0, head_dim=16, hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=16, rms_norm_eps=1e-6,
            rope_theta=1e4, sliding_window=4),
        "fields of Transformers 5, untied, attention biases, no caps, layer types the other way": written(Gemma2Config(**SIZES, head_dim=8, pad_token_id=3, attention_bias=True,
            attn_logit_softcapping=None, final_logit_softcapping=None, query_pre_attn_scalar=24, sliding_window=3, tie_word_embeddings=False,
            layer_types=["full_attention", "sliding_attention"], rope_parameters={"rope_type": "default", "rope_theta": 5e4}), "Gemma2ForCausalLM"),
    },
    "gemma3": {
        "fields of Transformers 4": v4("Gemma3ForCausalLM", "gemma3_text", attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None,
            head_dim=16, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=16, rms_norm_eps=1e-6,
            rope_local_base_freq=1e4, rope_scaling={"factor": 8.0, "rope_type": "linear"}, rope_theta=1e6, sliding_window=4, sliding_window_pattern=2),
        # Gemma3Attention has no use for attn_logit_softcapping. Scores of normed heads of 256 would saturate with the usual factor.
        "fields of Transformers 5, heads of 256, capped logits": written(Gemma3TextConfig(**{**SIZES, "num_attention_heads": 2}, head_dim=256, attn_logit_softcapping=7.0,
            final_logit_softcapping=11.0, query_pre_attn_scalar=2048, sliding_window=3, layer_types=["full_attention", "sliding_attention"], rope_parameters={"full_attention":
            {"rope_type": "default", "rope_theta": 2e5}, "sliding_attention": {"rope_type": "default", "rope_theta": 3e3}}), "Gemma3ForCausalLM"),
        # As GGUF files have them: the pattern of windows is not written, nor is the size of the vocabulary.
        "fields of Transformers 4, five windows of six": v4("Gemma3ForCausalLM", "gemma3_text", intermediate_size=16, num_hidden_layers=6, head_dim=16,
            hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=16, rms_norm_eps=1e-6, rope_local_base_freq=1e4,
            rope_scaling={"factor": 8.0, "rope_type": "linear"}, rope_theta=1e6, sliding_window=4, sliding_window_pattern=6),
    },
}  # fmt: skip

# convert_hf_to_gguf.py's architecture, and the case that is written.
GGUF = {"qwen2": (gguf.MODEL_ARCH.QWEN2, 0), "qwen3": (gguf.MODEL_ARCH.QWEN3, 0), "phi3": (gguf.MODEL_ARCH.PHI3, 1), "gemma2": (gguf.MODEL_ARCH.GEMMA2, 0),
        "gemma3": (gguf.MODEL_ARCH.GEMMA3, 2)}  # fmt: skip


def add_tokens(w, count):
    """A SentencePiece vocabulary of this size: control tokens, a space, and letters."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581"] + [chr(0x40 + i) for i in range(count - 5)]
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([-float(i) for i in range(count)])
    w.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.UNKNOWN] + [gguf.TokenType.NORMAL] * (count - 4))
    w.add_add_space_prefix(False)


def write_gguf(family):
    """The metadata that the converter's classes write for the family, names by gguf's own table, Gemma's norms plus 1; matrices here as F32."""
    arch, index = GGUF[family]
    c = list(FAMILIES[family].values())[index]
    w = gguf.GGUFWriter(OUT / f"{family}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    gemma = family.startswith("gemma")
    if family == "gemma3":
        add_tokens(w, c["vocab_size"])
    else:
        w.add_vocab_size(c["vocab_size"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if family != "gemma2":
        w.add_rope_freq_base(c["rope_theta"])
    if "head_dim" in c:
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    if gemma:
        w.add_sliding_window(c["sliding_window"])
    if family == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if family == "gemma3":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(c["rope_scaling"]["factor"])
    if family == "phi3":
        original = c["original_max_position_embeddings"]
        scale = c["max_position_embeddings"] / original
        w.add_rope_scaling_orig_ctx_len(original)
        w.add_rope_dimension_count(c["hidden_size"] // c["num_attention_heads"])
        w.add_sliding_window(c["sliding_window"])
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for kind in ("long", "short"):
            w.add_tensor(f"rope_factors_{kind}.weight", torch.tensor(c["rope_scaling"][f"{kind}_factor"]).numpy())
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    if "pad_token_id" in c:
        w.add_pad_token_id(c["pad_token_id"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(arch, c["num_hidden_layers"])
    for name, p in model_of(c, index + 1).named_parameters():
        data = p.detach().float()
        if gemma and name.endswith("norm.weight"):
            data = data + 1
        w.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), data.contiguous().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# Models that check_exports.py can be asked for by name.
TINY = {family: (list(FAMILIES[family].values())[index], index + 1) for family, (_, index) in GGUF.items()}

if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        write(OUT, family, FAMILIES[family])
        write_gguf(family)
