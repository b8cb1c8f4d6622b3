"""A generated grammar of short stories, with questions about them.

Plots live in `plots/*.txt`. A plot is a block of lines:

    plot ID | CAST [CAST] | VIRTUE      CAST: child, animal, adult, or adult=JOB / animal=SPECIES; the characters are A and B
    @ TOPIC                             what the story is about, as in "Write a story about TOPIC."
    let WORD = a|b|c                    a word class of this plot alone (added to those of lexicon.py)
    ? QUESTION = ANSWER                 a question that the story answers
    anything else                       one beat of the story, in order

In a beat `[a|b]` is a free choice; `{toy}` a word of class `toy`, the same through the story, `{toy2}` another one, `{toy.s}` its
plural; `{A}` a name, `{B+}` the name with an introduction where it comes first; `{he} {him} {his}` follow A's gender and
`{Bhe} {Bhim} {Bhis}` B's; `{A.kind}` is girl, fox, baker …; `{P}` is a relative of A ("his mother").
A dialogue starts with `talk ID | CAST` instead, has no virtue, and its beats are `A: …` or `B: …`.
Capitals at the start of a sentence and a/an are set afterwards. All text is written for this project.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import lexicon as lex

PRONOUNS = {"m": {"he": "he", "him": "him", "his": "his"}, "f": {"he": "she", "him": "her", "his": "her"}}
SYLLABLES = ("ka lo mi ra tu be sho na di vel ro zan fi mo pa lin ta ri go se da ju no wen ki bar el ya do sa mu ne ple gri tor hu lan vi "
             "xa qui oz che").split()


@dataclass(frozen=True)
class Plot:
    """One plot as written; see the module's text for the notation."""

    id: str
    cast: tuple[str, ...]
    virtue: str
    topic: str
    lets: dict[str, tuple[str, ...]]
    questions: tuple[tuple[str, str], ...]
    beats: tuple[str, ...]


@dataclass
class Character:
    name: str
    gender: str
    kind: str
    role: str


@dataclass
class Story:
    """A generated story: its text (one paragraph), a topic line, question/answer pairs, and what it teaches."""

    plot: Plot
    text: str
    topic: str
    hero: str
    questions: list[tuple[str, str]] = field(default_factory=list)


def load_plots() -> list[Plot]:
    """All plots of plots/*.txt in file order. Raises ValueError for a line that does not parse."""
    plots = []
    for path in sorted((Path(__file__).parent / "plots").glob("*.txt")):
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith("#")]
            if not lines:
                continue
            head = re.fullmatch(r"(?:plot|talk) ([\w-]+) \| ([\w= ]+?)(?: \| (\w+))?", lines[0])
            talk = lines[0].startswith("talk ")
            if not head or (head[3] not in lex.VIRTUES and not talk):
                raise ValueError(f"{path.name}: not a plot header: {lines[0]}")
            lets = {m[1]: tuple(m[2].split("|")) for line in lines if (m := re.fullmatch(r"let (\w+) = (.+)", line))}
            asked = tuple((m[1], m[2]) for line in lines if (m := re.fullmatch(r"\? (.+?) = (.+)", line)))
            topic = next((line[2:] for line in lines if line.startswith("@ ")), "")
            beats = tuple(line for line in lines[1:] if not re.match(r"@ |let |\? ", line))
            plots.append(Plot(head[1], tuple(head[2].split()), "talk" if talk else head[3], topic, lets, asked, beats))
    return plots


def invent_name(rng: random.Random) -> str:
    """A name of two or three random syllables."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "sh", "ch", "x", "o")):
        return word + "es"
    return word + "s"


def make_character(rng: random.Random, spec: str, taken: set[str], invented: float) -> Character:
    role, _, fixed = spec.partition("=")
    gender = "m" if fixed == "king" else rng.choice("mf")
    children, animals = (lex.BOYS, lex.HE_ANIMALS) if gender == "m" else (lex.GIRLS, lex.SHE_ANIMALS)
    names = animals if role == "animal" else children
    while True:
        if role == "child":
            kind = "boy" if gender == "m" else "girl"
        else:
            kind = fixed or rng.choice(lex.CAST_ANIMALS if role == "animal" else lex.ADULT_JOBS)
        name = invent_name(rng) if rng.random() < invented else rng.choice(names)
        if name not in taken and kind not in taken:
            return Character(name, gender, kind, role)


def choose(rng: random.Random, text: str) -> str:
    """Replaces every `[a|b]` by one of its alternatives, innermost first."""
    while "[" in text:
        text = re.sub(r"\[([^\[\]]*)\]", lambda m: rng.choice(m[1].split("|")), text)
    return text


def tidy(text: str) -> str:
    """Capital letters at the start of sentences and quotations, a/an, single spaces."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!one\b|use|uni)", r"\1n ", re.sub(r" +", " ", text)).strip()
    text = re.sub(r",(?=[.,])", "", text)
    return re.sub(r'(^|(?<=[.!?] )|(?<=\n)|(?<=[ \n])"|^")([a-z])', lambda m: m[1] + m[2].upper(), text)


class Scene:
    """The bindings of one story: characters, and the words drawn so far."""

    def __init__(self, rng: random.Random, plot: Plot, invented: float):
        self.rng, self.plot, self.words = rng, plot, {}
        self.cast: dict[str, Character] = {}
        for letter, spec in zip("AB", plot.cast):
            taken = {x for c in self.cast.values() for x in ((c.name, c.kind) if c.role == "animal" else (c.name,))}
            self.cast[letter] = make_character(rng, spec, taken, invented)
        relatives = lex.RELATIVES[:2] if self.cast["A"].role == "animal" else lex.RELATIVES
        self.relative = rng.choice(relatives)[0]
        self.introduced = {"A"}

    def word(self, key: str) -> str:
        if key not in self.words:
            base = key.rstrip("23")
            pool = self.plot.lets.get(base) or lex.CLASSES.get(base)
            if pool is None:
                raise ValueError(f"plot {self.plot.id}: no class {key}")
            used = {v for k, v in self.words.items() if k.rstrip("23") == base}
            self.words[key] = self.rng.choice([w for w in pool if w not in used])
        return self.words[key]

    def introduce(self, letter: str) -> str:
        who, a = self.cast[letter], self.cast["A"]
        if letter in self.introduced:
            return who.name
        self.introduced.add(letter)
        if who.role == "animal":
            return self.rng.choice((f"{who.name} the {who.kind}", f"a {who.kind} named {who.name}"))
        his = PRONOUNS[a.gender]["his"]
        return self.rng.choice((f"{his} friend {who.name}", f"a {who.kind} named {who.name}", f"{who.name}, a {who.kind} from next door,"))

    def slot(self, m: re.Match[str]) -> str:
        key, attribute = m[1], m[2]
        if attribute == "kind":
            return self.cast[key].kind
        if attribute == "s":
            return plural(self.word(key))
        if key == "P":
            return f"{PRONOUNS[self.cast['A'].gender]['his']} {self.relative}"
        if key in self.cast:
            return self.cast[key].name
        if key.endswith("+"):
            return self.introduce(key[0])
        if key in ("he", "him", "his"):
            return PRONOUNS[self.cast["A"].gender][key]
        if key in ("Bhe", "Bhim", "Bhis"):
            return PRONOUNS[self.cast["B"].gender][key[1:]]
        return self.word(key)

    def fill(self, text: str) -> str:
        return tidy(re.sub(r"\{([\w+]+)(?:\.(\w+))?\}", self.slot, choose(self.rng, text)))


def opening(scene: Scene, brief: bool) -> str:
    """One to three sentences that bring the characters in; no detail where `brief`."""
    rng, a = scene.rng, scene.cast["A"]
    b = scene.cast.get("B")
    uses_intro = any("{B+}" in beat or "named {B}" in beat for beat in scene.plot.beats)
    if a.role == "child":
        first = ("Once upon a time there was a {trait} {A.kind} named {A}.", "{A} was a {trait} {A.kind} who lived in {home}.",
                 "There once was a {A.kind} called {A} who loved {hobby}.", "In {home} lived a {A.kind} named {A}.",
                 "One {weather} {daytime}, a {trait} {A.kind} named {A} was out [for a walk|and about].")
        more = ("{A} loved {hobby2}.", "It was {day}.", "{he} liked {hobby2} and {hobby3}.", "{he} had a {pet} and a {color} {hat}.",
                "It was a {weather} {daytime}.", "One {weather} {daytime} something happened.")
    elif a.role == "animal":
        first = ("Once upon a time there was a {trait} {A.kind} named {A}.", "In the {wild} lived a {trait} {A.kind} named {A}.",
                 "{A} was a {A.kind} who lived in {den}.", "A {trait} {A.kind} called {A} lived near the {wild}.",
                 "Long ago, when animals could talk, there was a {A.kind} named {A}.")
        more = ("{he} loved {hobby}.", "It was a {weather} {daytime}.", "One {weather} {daytime} something happened.",
                "{A} liked {hobby} and {hobby2}.")
    else:
        first = ("Once upon a time there was a {A.kind} named {A}.", "In {town} lived a {trait} {A.kind} named {A}.",
                 "{A} was a {A.kind} in {town}.", "Long ago, in {town}, there was a {A.kind} called {A}.")
        more = ("Everyone knew {him}.", "{he} loved {hobby}.", "It was a {weather} {daytime}.", "{he} wore a {color} {clothes}.")
    parts = [rng.choice(first)]
    if rng.random() < 0.55 and not brief:
        parts.append(rng.choice(more[:4] if "{weather}" in parts[0] else more))
    if b and (not uses_intro or rng.random() < 0.35):
        scene.introduced.add("B")
        if b.role == "animal":
            parts.append(rng.choice(("{A} had a friend, {B} the {B.kind}.", "Not far away lived {B} the {B.kind}.")))
        elif b.role == "child":
            parts.append(rng.choice(("{he} knew a {B.kind} named {B}.", "There was also a {B.kind} named {B}.")))
        else:
            parts.append("There was also a {B.kind} named {B}.")
    return " ".join(scene.fill(p) for p in parts)


def make_story(rng: random.Random, plot: Plot, invented: float = 0.1, brief: bool = False) -> Story:
    """A story of one plot. `invented`: the probability that a character's name is made of random syllables.
    `brief`: no details beside the plot."""
    scene = Scene(rng, plot, invented)
    learned, endings, _ = lex.VIRTUES[plot.virtue]
    parts = [opening(scene, brief)] + [scene.fill(beat) for beat in plot.beats]
    if rng.random() < 0.85:
        parts.append(scene.fill(rng.choice(endings)))
    questions = [(scene.fill(q), scene.fill(a)) for q, a in plot.questions]
    a = scene.cast["A"]
    questions.append((f"What did {a.name} learn?", f"{a.name} learned {learned}."))
    questions.append(("Who is the story about?", f"The story is about {a.name}."))
    if a.role == "animal":
        questions.append((f"What animal was {a.name}?", scene.fill("{A} was a {A.kind}.")))
    topic = scene.fill(plot.topic)
    topic = topic[0].lower() + topic[1:] if plot.topic.startswith("the ") else topic
    hero = f"a {a.kind} named {a.name}" if rng.random() < 0.7 else f"a {a.kind}"
    return Story(plot, " ".join(p for p in parts if p), topic, tidy("x " + hero)[2:], questions)
