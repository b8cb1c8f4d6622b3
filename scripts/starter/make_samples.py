"""Writes the sample data sets of public/samples from the grammar, with a fixed seed.

    python scripts/starter/make_samples.py [--out public/samples]

- story-morals.jsonl, story-morals.heldout.jsonl, story-morals.newplots.jsonl: {"prompt": story + newline, "completion": "Moral: …"}, one moral for each of the 16
  things that a story can teach. Training takes seven stories of each plot shown; held out is one other story of each of these; new plots
  are two stories of each of the 16 plots that training never shows, one plot a moral.
- pirate-answers.csv: instruction,output; answers of the grammar's questions in the voice of a pirate.
- butler-chat.messages.jsonl: the same kind of questions as conversations in OpenAI's messages shape.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

from corpus import STORIES
from grammar import Plot, make_story
from lexicon import VIRTUES
from questions import FACTS

LONGEST = 128
"""Tokens of a row with its BOS and EOS; so that a sequence length of 128 cuts nothing."""
TRIES = 60


def split_plots(tokenizer: Tokenizer) -> tuple[list[Plot], list[Plot]]:
    """(plots shown in training, plots kept out): of the plots that fit, the last one of every virtue is kept out."""
    rng = random.Random(5)
    fitting = [p for p in STORIES if sum(length(make_story(rng, p, brief=True).text, p, tokenizer) <= LONGEST for _ in range(20)) >= 3]
    last = {plot.virtue: plot.id for plot in fitting}
    return [p for p in fitting if last[p.virtue] != p.id], [p for p in fitting if last[p.virtue] == p.id]


def length(story: str, plot: Plot, tokenizer: Tokenizer) -> int:
    """Tokens of the row of this story, BOS and EOS included."""
    return len(tokenizer.encode(f"{story}\nMoral: {VIRTUES[plot.virtue][2]}").ids) + 1


def moral_rows(plots: list[Plot], each: int, rng: random.Random, seen: set[str], tokenizer: Tokenizer) -> list[dict]:
    """`each` rows of each plot whose story is not in `seen` (it is added), shuffled."""
    out = []
    for plot in plots:
        made = 0
        for _ in range(TRIES * each):
            story = make_story(rng, plot, brief=True).text
            row = {"prompt": story + "\n", "completion": "Moral: " + VIRTUES[plot.virtue][2]}
            if story in seen or length(story, plot, tokenizer) > LONGEST:
                continue
            seen.add(story)
            out.append(row)
            made += 1
            if made == each:
                break
        if made < each:
            raise ValueError(f"plot {plot.id}: only {made} stories of at most {LONGEST} tokens")
    rng.shuffle(out)
    return out


def lower(text: str) -> str:
    """The first letter small, except in I and in words of capitals."""
    return text if text[:2] in ("I ", "I'") or text[1:2].isupper() else text[0].lower() + text[1:]


def plain_facts() -> list[tuple[str, str]]:
    """Questions whose answer is one sentence that may follow "Arr, "."""
    families = ("sound", "baby", "home", "opposite", "job", "use", "sense", "place", "legs", "color", "made")
    return [(q, a) for family in families for q, a in FACTS[family]]


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("public/samples"))
    parser.add_argument("--tokenizer", type=Path, default=Path("public/starter/tokenizer.json"))
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(a.tokenizer))
    rng = random.Random(77)
    seen: set[str] = set()
    shown, kept = split_plots(tokenizer)
    print(len(shown), "plots shown,", len(kept), "kept out")
    write_jsonl(a.out / "story-morals.jsonl", moral_rows(shown, 7, rng, seen, tokenizer))
    write_jsonl(a.out / "story-morals.heldout.jsonl", moral_rows(shown, 1, rng, seen, tokenizer))
    write_jsonl(a.out / "story-morals.newplots.jsonl", moral_rows(kept, 2, rng, seen, tokenizer))

    facts = plain_facts()
    rng.shuffle(facts)
    with (a.out / "pirate-answers.csv").open("w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(("instruction", "output"))
        for q, answer in facts[:160]:
            table.writerow((q, f"Arr, {lower(answer)[:-1]}, matey!"))
    print(f"pirate-answers.csv: 160 rows, {(a.out / 'pirate-answers.csv').stat().st_size} bytes")
    chats = []
    for i in range(0, 120, 2):
        turns = []
        for q, answer in facts[i : i + 1 + (i // 2) % 2]:
            turns += [{"role": "user", "content": q}, {"role": "assistant", "content": f"Very well. {answer}"}]
        chats.append({"messages": [{"role": "system", "content": "You are a polite butler."}, *turns]})
    write_jsonl(a.out / "butler-chat.messages.jsonl", chats)


if __name__ == "__main__":
    main()
