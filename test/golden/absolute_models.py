"""GPT-2 and OPT by Transformers and PEFT, for configs of both generations; and a GPT-2 as llama.cpp's converter writes it.

Run: python test/golden/absolute_models.py  (torch, transformers 5, peft, safetensors, gguf). Writes models/{gpt2,opt}.{json,safetensors} and models/gpt2.gguf
beside it.
"""

import pathlib

import gguf
from reference_model import model_of, write, written
from transformers import GPT2Config, OPTConfig

OUT = pathlib.Path(__file__).parent / "models"
# As files of Transformers 4 have them: no field beside these matters.
GPT2_V4 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 66, "embd_pdrop": 0.1,
           "eos_token_id": 66, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_ctx": 40, "n_embd": 32, "n_head": 4, "n_inner": None, "n_layer": 2,
           "n_positions": 40, "resid_pdrop": 0.1, "torch_dtype": "float32", "vocab_size": 67}  # fmt: skip
OPT_V4 = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "activation_function": "relu", "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 2,
          "do_layer_norm_before": True, "dropout": 0.1, "ffn_dim": 64, "hidden_size": 32, "layerdrop": 0.0, "max_position_embeddings": 40,
          "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 1, "torch_dtype": "float16", "vocab_size": 67, "word_embed_proj_dim": 32}  # fmt: skip


GPT2 = {
    "fields of Transformers 4": GPT2_V4,
    "fields of Transformers 5, untied, inner width, exact gelu, scores by layer": written(
        GPT2Config(vocab_size=65, n_embd=36, n_head=3, n_inner=44, n_layer=2, n_positions=24, activation_function="gelu", scale_attn_by_inverse_layer_idx=True,
                   layer_norm_epsilon=1e-6, tie_word_embeddings=False, bos_token_id=0, eos_token_id=[1, 2]),
        "GPT2LMHeadModel"),
}
OPT = {
    "fields of Transformers 4": OPT_V4,
    "fields of Transformers 5, norms after, projected embeddings": written(
        OPTConfig(vocab_size=67, hidden_size=32, num_hidden_layers=2, ffn_dim=48, max_position_embeddings=24, do_layer_norm_before=False, word_embed_proj_dim=20,
                  num_attention_heads=2), "OPTForCausalLM"),
    "untied, no biases, no final norm, gelu": {**OPT_V4, "hidden_size": 36, "word_embed_proj_dim": 36, "num_attention_heads": 3, "ffn_dim": 44, "vocab_size": 65,
        "enable_bias": False, "_remove_final_layer_norm": True, "activation_function": "gelu", "tie_word_embeddings": False},
}  # fmt: skip


def write_gguf(path, config, seed):
    """convert_hf_to_gguf.py, GPT2Model: names by gguf's own table, Conv1D weights as [out, in], matrices here as F32."""
    model = model_of(config, seed)
    w = gguf.GGUFWriter(path, "gpt2")
    w.add_block_count(config["n_layer"])
    w.add_context_length(config["n_positions"])
    w.add_embedding_length(config["n_embd"])
    w.add_feed_forward_length(4 * config["n_embd"])
    w.add_head_count(config["n_head"])
    w.add_layer_norm_eps(config["layer_norm_epsilon"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_vocab_size(config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    for name, p in model.named_parameters():
        data = p.detach().float()
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            data = data.T
        w.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), data.contiguous().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# Models that check_exports.py can be asked for by name: with room for its rows and a prompt.
TINY = {"gpt2": ({**GPT2_V4, "n_positions": 64}, 1), "opt": ({**OPT_V4, "max_position_embeddings": 64}, 1),
        "opt-350m": ({**OPT["fields of Transformers 5, norms after, projected embeddings"], "max_position_embeddings": 64}, 2)}  # fmt: skip


def tiny(name, folder):
    model_of(*TINY[name]).float().save_pretrained(folder)


if __name__ == "__main__":
    write(OUT, "gpt2", GPT2)
    write(OUT, "opt", OPT)
    write_gguf(OUT / "gpt2.gguf", GPT2_V4, 1)
