"""The starter model's tokenizer: byte-level BPE of 2,048 entries trained on the grammar, as a Hugging Face tokenizer.json.

All 256 bytes are in the vocabulary, so any text tokenises and comes back unchanged. One special token, `<|endoftext|>` (id 0), begins
and ends a text; the post-processor puts it in front. Digits are split off one by one.

    python scripts/starter/tokenizer.py [--out public/starter]
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from corpus import document
from grammar import invent_name

END = "<|endoftext|>"
VOCABULARY = 2048
CONTEXT = 256


def train(documents: int = 30000, seed: int = 1) -> Tokenizer:
    """BPE over `documents` documents of the grammar, with invented names mixed in so that their syllables stay cheap to spell."""
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    texts = (document(rng) + " " + invent_name(rng) for _ in range(documents))
    tokenizer.train_from_iterator(texts, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A $B:1", special_tokens=[(END, end)]
    )
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("public/starter"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "bos_token": END, "eos_token": END, "pad_token": END,
        "unk_token": END, "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    rng = random.Random(2)
    texts = [document(rng) for _ in range(2000)]
    ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
    print(f"{tokenizer.get_vocab_size()} entries, {sum(map(len, ids)) / len(ids):.1f} tokens a document, "
          f"{sum(map(len, texts)) / sum(map(len, ids)):.2f} characters a token, longest {max(map(len, ids))}")


if __name__ == "__main__":
    main()
