"""Documents of the starter model's training corpus and their packing into rows of tokens.

Shapes and shares (see `document`): plain stories, stories on request ("Write a story about …"), stories followed by questions,
question/answer lists with and without `Q:`/`A:`, and dialogues. Documents are drawn afresh for every row, so nothing repeats on purpose.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

import lexicon as lex
from grammar import Plot, Scene, Story, load_plots, make_story
from questions import ask

ALL_PLOTS = load_plots()
STORIES = [p for p in ALL_PLOTS if p.beats and p.virtue != "talk"]
DIALOGUES = [p for p in ALL_PLOTS if p.virtue == "talk"]
IGNORED = -100


@dataclass(frozen=True)
class Mix:
    """Shares of the corpus. `questions`: of documents that are question lists (dialogues are 9 %, stories the rest); `pairs`: how many
    questions a list has, drawn from these; `invented`: of characters whose name is made of random syllables."""

    questions: float = 0.19
    pairs: tuple[int, ...] = (1, 1, 2, 3, 4)
    invented: float = 0.1


def dialogue(rng: random.Random, plot: Plot, invented: float) -> str:
    """Speaker lines `Name: …`, one a line."""
    scene = Scene(rng, plot, invented)
    lines = []
    for beat in plot.beats:
        who, _, said = beat.partition(": ")
        lines.append(f"{scene.cast[who].name}: {scene.fill(said)}")
    return "\n".join(lines)


def request(rng: random.Random, story: Story) -> str:
    """An instruction that asks for this story."""
    lead = rng.choice(("Write a story about {}.", "Tell me a story about {}.", "Write a short story about {}.", "Tell a story about {}."))
    return lead.format(story.topic if rng.random() < 0.7 else story.hero)


def answers(pairs: list[tuple[str, str]], marked: bool) -> str:
    return "\n".join(f"Q: {q}\nA: {a}" if marked else f"{q}\n{a}" for q, a in pairs)


def document(rng: random.Random, mix: Mix = Mix()) -> str:
    """One document. Of the stories half are plain, a fifth come with their request, the rest with questions about them."""
    draw, stories = rng.random(), 0.91 - mix.questions
    if draw < stories:
        story = make_story(rng, rng.choice(STORIES), mix.invented)
        if draw < stories * 0.5:
            return story.text
        if draw < stories * 25 / 36:
            return f"{request(rng, story)}\n{story.text}"
        asked = rng.sample(story.questions, min(len(story.questions), rng.choice((1, 1, 2, 3))))
        return f"{story.text}\n{answers(asked, True)}"
    if draw < 0.91:
        marked = rng.random() < 0.6
        return answers([ask(rng) for _ in range(rng.choice(mix.pairs))], marked)
    return dialogue(rng, rng.choice(DIALOGUES), mix.invented)


def rows(tokenizer: Tokenizer, seed: int, length: int, mix: Mix = Mix(), pool_size: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless (inputs, targets), each int64 of shape [length]. A row starts at the start of a document and holds whole documents, fitted
    so that little is left over; what is left over has the target -100. One row in ten lacks the first BOS, as text given without it."""
    rng = random.Random(seed)
    eos = tokenizer.token_to_id("<|endoftext|>")
    pool: list[list[int]] = []
    while True:
        while len(pool) < pool_size:
            texts = [document(rng, mix) for _ in range(64)]
            pool += [e.ids + [eos] for e in tokenizer.encode_batch(texts, add_special_tokens=False) if len(e.ids) < length - 1]
        row: list[int] = [] if rng.random() < 0.1 else [eos]
        chosen = [pool.pop(rng.randrange(len(pool)))]
        space = length + 1 - len(row) - len(chosen[0])
        while space > 0:
            best = max((i for i, d in enumerate(pool) if len(d) <= space), key=lambda i: len(pool[i]), default=None)
            if best is None:
                break
            chosen.append(pool.pop(best))
            space -= len(chosen[-1])
        rng.shuffle(chosen)
        for d in chosen:
            row += d
        inputs = np.full(length, eos, dtype=np.int64)
        targets = np.full(length, IGNORED, dtype=np.int64)
        n = len(row) - 1
        inputs[:n], targets[:n] = row[:-1], row[1:]
        yield inputs, targets


def batches(tokenizer: Tokenizer, seed: int, length: int, size: int, mix: Mix = Mix()) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless (inputs, targets) of shape [size, length]."""
    source = rows(tokenizer, seed, length, mix)
    while True:
        pairs = [next(source) for _ in range(size)]
        yield np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()))


def statistics(samples: int = 20000, seed: int = 9) -> dict[str, float]:
    """Figures of the grammar: plots, dialogues, words (without invented names), distinct stories among `samples`."""
    rng = random.Random(seed)
    vocabulary: set[str] = set()
    texts = [make_story(rng, rng.choice(STORIES), invented=0.0) for _ in range(samples)]
    for s in texts:
        vocabulary |= words(s.text)
    for _ in range(samples // 4):
        q, a = ask(rng)
        vocabulary |= words(q) | words(a)
    return {"plots": len(STORIES), "dialogues": len(DIALOGUES), "words": len(vocabulary), "virtues": len(lex.VIRTUES),
            "distinct_of_%d" % samples: len({s.text for s in texts})}


if __name__ == "__main__":
    print(statistics())
    sample = random.Random(3)
    for _ in range(6):
        print("-----\n" + document(sample))
