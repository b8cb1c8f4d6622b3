"""Writes test/golden/io/tokenizers.json: small tokenizers as a GGUF file holds them, with the ids their reference implementations give.

Needs: tokenizers, sentencepiece.  Run: python test/golden/gguf_tokenizers.py
Byte-level BPE: trained here, once per pre-tokenizer, with the tokenizer.json structure of the models that use it. SentencePiece BPE: trained here, ids by
sentencepiece itself, once with and once without the space that is put before a text.
"""
import json
import pathlib
import tempfile

import sentencepiece as spm
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = pathlib.Path(__file__).parent / "io"
CORPUS = [
    "The fox said that it isn't hungry, and the old crow didn't believe a word of it.",
    "In 1984 there were 365 days, 12 months and 52 weeks; 1234567 seconds later it was over.",
    "def f(x):\n    return x ** 2\n\n\nprint(f(12))\n", "naïve café, déjà vu, Ångström, 日本語のテキスト, Привет мир, مرحبا",
    "WE'LL GO, THEY'RE HERE, I'VE SEEN, YOU'D KNOW   many   spaces\t\ttabs\r\nand lines\n\n", "$5.00 + 7% = ??? !!! ... --- (a[b]{c}) http://example.org/a?b=c",
] * 4
TEXTS = CORPUS[:6] + ["", " ", "   ", "\n", " \n\n x", "hello world", "  leading and trailing  ", "1 22 333 4444 55555", "it's IT'S it’S", "e\u0301 é ﬁ", "🎉🎉 emoji", "a<|end|>b <|end|> c", "<|end|>", "\u00a0nbsp", "x\r\ny",
    "camelCase HTTPServer ISN'T don'T, a//\n/b/\r\n ǅ ʰA Ünïcode 12345x"]
SPECIAL = ["<|start|>", "<|end|>"]
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
P = pre_tokenizers
PRES = {
    "gpt-2": (None, P.ByteLevel(add_prefix_space=False), False),
    "smollm": (None, P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]), False),
    "llama-bpe": (None, P.Sequence([P.Split(Regex(GPT4 % "{1,3}"), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), True),
    "dbrx": (None, P.Sequence([P.Split(Regex(GPT4 % "{1,3}"), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), False),
    "gpt-4o": (None, P.Sequence([P.Split(Regex(GPT4O), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), False),
    "qwen2": (normalizers.NFC(), P.Sequence([P.Split(Regex(GPT4 % ""), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), False),
}
out = []
for pre, (norm, pretok, ignore) in PRES.items():
    t = Tokenizer(models.BPE(ignore_merges=ignore))
    if norm:
        t.normalizer = norm
    t.pre_tokenizer, t.decoder = pretok, decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=520, special_tokens=SPECIAL, initial_alphabet=P.ByteLevel.alphabet(), show_progress=False))
    m = json.loads(t.to_str())["model"]
    tokens = [k for k, _ in sorted(m["vocab"].items(), key=lambda x: x[1])]
    out.append({
        "model": "gpt2", "pre": pre, "tokens": tokens, "types": [3 if x in SPECIAL else 1 for x in tokens],
        "merges": [x if isinstance(x, str) else " ".join(x) for x in m["merges"]],
        "cases": [{"text": x, "ids": t.encode(x, add_special_tokens=False).ids, "decoded": t.decode(t.encode(x, add_special_tokens=False).ids, skip_special_tokens=False)} for x in TEXTS],
    })

for prefix in [True, False]:
    with tempfile.TemporaryDirectory() as d:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 5), model_prefix=f"{d}/m", model_type="bpe", vocab_size=420, byte_fallback=True, character_coverage=0.99, add_dummy_prefix=prefix,
            remove_extra_whitespaces=False, normalization_rule_name="identity", split_digits=True, minloglevel=2)
        sp = spm.SentencePieceProcessor(model_file=f"{d}/m.model")
        n = sp.get_piece_size()
        kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 1
        texts = [x for x in TEXTS if "<|" not in x]
        out.append({
            "model": "llama", "prefix": prefix, "tokens": [sp.id_to_piece(i) for i in range(n)], "types": [kind(i) for i in range(n)], "scores": [sp.get_score(i) for i in range(n)],
            "cases": [{"text": x, "ids": sp.encode(x), "decoded": x} for x in texts],
        })
(OUT / "tokenizers.json").write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")))
print([(len(x["tokens"]), len(x["cases"])) for x in out])
