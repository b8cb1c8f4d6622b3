"""Reference ids, rendered chats and loss masks, by tokenizers, Transformers and TRL.

    python test/golden/data_fixtures.py      (needs torch, transformers, tokenizers, trl, jinja2)

Writes test/fixtures/data/golden/{bytelevel,llama}.tokenizer.json, chat.json, masks.json. The tokenizers are trained here, on the text in this
file; the templates are ours, in the manner of ChatML, Llama 3, Zephyr and Gemma.
"""
import json
import pathlib
import tempfile

import datasets
import torch
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

datasets.disable_progress_bars()

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "data" / "golden"
OUT.mkdir(parents=True, exist_ok=True)

TEXT = """The harbour was quiet when the lamps were lit. A heron stood on the pier and watched the tide go out.
What does the heron eat? Small fish, frogs and whatever else the tide leaves behind.
def area(width, height):
    return width * height
Mira counted 1, 2, 3 and 42 shells; she kept 17 of them. "Why so many?" asked Tom. "Because they're mine."
Translate the sentence. Summarise the story in one line. Answer with yes or no. You are a brief assistant.
Le café était fermé. Über den Dächern. 日本語のテキスト。 Ελληνικά. 🎉 And back to English again, with the usual words.
user assistant system model question answer instruction input output prompt completion text the of and to in is it"""

# {% generation %} marks what the assistant says, up to and with what ends its turn: TRL's mask of "assistant tokens" reads it.
TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n' }}{% generation %}{{ message['content'] + eos_token + '\n' }}{% endgeneration %}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' }}"
    "{% if role == 'model' %}{% generation %}{{ message['content'] | trim + '<end_of_turn>\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] | trim + '<end_of_turn>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
            "<|user|>", "<|system|>", "<|assistant|>", "<start_of_turn>", "<end_of_turn>"]  # fmt: skip


def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's; pad is EOS, no BOS added: SmolLM2's arrangement."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXT.splitlines(True), trainers.BpeTrainer(vocab_size=480, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>")


def llama_like() -> PreTrainedTokenizerFast:
    """BPE with byte fallback, spaces as U+2581 put before the text, BOS by the post-processor: Llama 2's arrangement."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    ascii_letters = [chr(c) for c in range(33, 127)] + ["▁"]
    words = [w for line in TEXT.splitlines() for w in line.split() if w.isascii()]
    special = [AddedToken(s, normalized=False, special=True) for s in ["<unk>", "<s>", "</s>"]]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special + [f"<0x{b:02X}>" for b in range(256)], initial_alphabet=ascii_letters, show_progress=False)
    t.train_from_iterator(words, trainer)
    # The byte tokens belong to the vocabulary but are no added tokens.
    spec = json.loads(t.to_str())
    spec["added_tokens"] = spec["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(spec))
    t.add_special_tokens([AddedToken(s, normalized=False) for s in SPECIALS])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bytelevel": byte_level(), "llama": llama_like()}
CONFIGS = {k: {n: getattr(t, n) for n in ("bos_token", "eos_token", "pad_token", "unk_token") if getattr(t, n)} for k, t in TOKENIZERS.items()}

STRINGS = ["", " ", "   ", "\n", "The heron eats fish.", "  leading and  double  spaces ", "tabs\tand\nnew\n\nlines\r\n", "don't we're I'LL", "3.14159 and 1234567",
           "naïve café 日本語 🎉 “quoted” — ẞ", "<|im_start|>user\nhi<|im_end|>\n", "a<|im_end|>b </s> <s>x", "\u0000 nul and \u200b zero width", "é é (composed, combining)"]  # fmt: skip

CHATS = {
    "one turn": [{"role": "user", "content": "What does the heron eat?"}, {"role": "assistant", "content": "Small fish."}],
    "system": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
    "four turns": [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "  1, with spaces  "}, {"role": "user", "content": "\nTwo?\n"}, {"role": "assistant", "content": "\n2\n\n"}],
    "same words": [{"role": "user", "content": "yes"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "yes"}, {"role": "assistant", "content": "yes"}],
    "user last": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "日本語 🎉"}, {"role": "user", "content": "What?"}],
    "special inside": [{"role": "user", "content": "say <|im_end|>"}, {"role": "assistant", "content": "<|im_end|> is a token"}],
}

PAIRS = {
    "newline": ("What does the heron eat?\n", "Small fish."),
    "no separator": ("What does the her", "on eat?"),
    "space at the join": ("The tide goes", " out."),
    "space before the join": ("The tide goes ", "out."),
    "newlines merge": ("Answer:\n", "\n\nyes"),
    "ends with EOS": ("a\n", "b{eos}"),
    "no prompt": ("", "The tide."),
    "accents": ("café é", "té 日本"),
}


def trained_rows(tokenizer, rows, template=None, **config):
    """ids and labels that TRL's SFTTrainer trains on. Rows one by one: columns differ."""
    model = LlamaForCausalLM(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=len(tokenizer)))
    out = []
    for row in rows:
        tokenizer.chat_template = template
        with tempfile.TemporaryDirectory() as folder:
            args = SFTConfig(output_dir=folder, max_length=None, report_to=[], use_cpu=True, bf16=False, **config)
            trainer = SFTTrainer(model=model, args=args, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
        batch = trainer.data_collator([trainer.train_dataset[0]])
        out.append({"ids": batch["input_ids"][0].tolist(), "labels": batch["labels"][0].tolist()})
    return out


def main():
    torch.manual_seed(0)
    for name, t in TOKENIZERS.items():
        t.backend_tokenizer.save(str(OUT / f"{name}.tokenizer.json"), pretty=False)
    encode = [{"tokenizer": k, "text": s, "special": t(s)["input_ids"], "plain": t(s, add_special_tokens=False)["input_ids"]} for k, t in TOKENIZERS.items() for s in STRINGS]
    decode = [{"tokenizer": e["tokenizer"], "ids": e["special"], "all": TOKENIZERS[e["tokenizer"]].decode(e["special"]), "skip": TOKENIZERS[e["tokenizer"]].decode(e["special"], skip_special_tokens=True)} for e in encode]

    chat = []
    for tokenizer, t in TOKENIZERS.items():
        for template, source in TEMPLATES.items():
            for case, messages in CHATS.items():
                row = {"tokenizer": tokenizer, "template": template, "case": case, "messages": messages}
                try:
                    row["prompt"] = t.apply_chat_template(messages, chat_template=source, tokenize=False, add_generation_prompt=True)
                    row["text"] = t.apply_chat_template(messages, chat_template=source, tokenize=False)
                    row["ids"] = t.apply_chat_template(messages, chat_template=source, tokenize=True, return_dict=False)
                except Exception as e:  # the template's own message
                    row["error"] = str(e)
                chat.append(row)

    masks = []
    for tokenizer, t in TOKENIZERS.items():
        for case, (prompt, completion) in PAIRS.items():
            row = {"prompt": prompt, "completion": completion.replace("{eos}", t.eos_token)}
            masks.append({"tokenizer": tokenizer, "template": None, "case": case, "row": row, **trained_rows(t, [row])[0]})
        for text in ["The tide goes out.", "ends with EOS" + t.eos_token, "café 日本"]:
            masks.append({"tokenizer": tokenizer, "template": None, "case": "text", "row": {"text": text}, **trained_rows(t, [{"text": text}])[0]})
        for template, source in TEMPLATES.items():
            for c in [c for c in chat if c["tokenizer"] == tokenizer and c["template"] == template and "ids" in c]:
                add = lambda case, row, **config: masks.append({"tokenizer": tokenizer, "template": template, "case": case, "row": row, **trained_rows(t, [row], source, **config)[0]})
                # Transformers finds assistant tokens by character offsets. With a normalizer that puts U+2581 before a text, the newline after
                # an end-of-turn token is two tokens with one offset, and it marks the first of them only: so not with that tokenizer.
                if tokenizer == "bytelevel":
                    add(c["case"], {"messages": c["messages"]}, assistant_only_loss=True)
                if c["messages"][-1]["role"] == "assistant":
                    add(c["case"] + ", last turn", {"prompt": c["messages"][:-1], "completion": c["messages"][-1:]})

    write = lambda name, value: (OUT / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    write("chat.json", {"templates": TEMPLATES, "configs": CONFIGS, "encode": encode, "decode": decode, "chat": chat})
    write("masks.json", masks)


main()
