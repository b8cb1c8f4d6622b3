"""Questions and answers about a small world: sounds, homes, opposites, colours, jobs, sums, sizes, spelling.

`facts()` lists every fixed question with its answer. `ask(rng)` draws one pair, open ones (lists, copies) included.
A sixth of the sums and of the size comparisons, chosen by a hash, are kept out of training to see what carries over.
"""

from __future__ import annotations

import random
import zlib

import lexicon as lex
from grammar import tidy


def pairs(text: str) -> list[tuple[str, str]]:
    return [(a.strip(), b.strip()) for a, b in (item.split(":") for item in text.split(";") if item.strip())]


SOUNDS = pairs("cow:moo; dog:woof; cat:meow; duck:quack; sheep:baa; pig:oink; horse:neigh; hen:cluck; bee:buzz; owl:hoot; mouse:squeak; "
               "frog:croak; lion:roar; snake:hiss; crow:caw; donkey:hee-haw; wolf:howl; bird:tweet; goose:honk; rooster:cock-a-doodle-doo")
BABIES = pairs("cow:calf; dog:puppy; cat:kitten; sheep:lamb; horse:foal; hen:chick; duck:duckling; goose:gosling; bear:cub; frog:tadpole; "
               "goat:kid; deer:fawn; pig:piglet; swan:cygnet; owl:owlet; kangaroo:joey")
HOMES = pairs("bird:a nest; bee:a hive; fox:a den; spider:a web; fish:the water; rabbit:a burrow; horse:a stable; king:a castle; bear:a cave; "
              "pig:a sty; cow:a barn; snail:its shell; monkey:the jungle; camel:the desert; whale:the sea; penguin:the ice; ant:an ant hill; "
              "sailor:a ship; farmer:a farm; squirrel:a tree")
OPPOSITES = pairs("big:small; hot:cold; up:down; in:out; day:night; old:new; happy:sad; fast:slow; wet:dry; light:dark; hard:soft; tall:short; "
                  "open:closed; full:empty; good:bad; rich:poor; loud:quiet; left:right; early:late; clean:dirty; strong:weak; thick:thin; "
                  "high:low; near:far; first:last; true:false; sweet:sour; black:white; begin:end; give:take; laugh:cry; "
                  "win:lose; push:pull; yes:no; love:hate; heavy:weightless; summer:winter; front:back; brave:afraid; sharp:dull; "
                  "rough:smooth; friend:enemy; wide:narrow; deep:shallow; question:answer; sunrise:sunset; north:south; east:west; asleep:awake")
COLORS = pairs("the sky:blue; grass:green; snow:white; coal:black; a banana:yellow; a tomato:red; a carrot:orange; a plum:purple; chocolate:brown; "
               "a lemon:yellow; a frog:green; the sun:yellow; the sea:blue; a pig:pink; a fire truck:red; milk:white; an elephant:gray; night:black; "
               "a pumpkin:orange; a strawberry:red; a leaf:green; a cloud:white; mud:brown; a crow:black; a swan:white; a cherry:red; a mouse:gray")
KINDS = [(w, k) for k, c in (("fruit", "fruit"), ("vegetable", "veg"), ("flower", "flower"), ("tree", "tree"), ("musical instrument", "music"))
         for w in lex.CLASSES[c] if w not in ("orange", "birch", "elm")]
KINDS += [(w, k) for k, ws in {
    "tool": "hammer saw shovel rake axe brush", "bird": "robin eagle owl crow swan parrot penguin", "bug": "ant bee beetle fly moth",
    "vehicle": "car bus truck train ship plane", "toy": "doll kite puzzle puppet balloon", "animal": "fox wolf tiger camel rabbit zebra",
    "fish": "shark salmon trout", "color": "red blue green yellow purple", "shape": "circle square triangle",
    "season": "spring summer fall winter", "month": "January May July October", "planet": "Mars Venus Earth Saturn", "drink": "milk tea cocoa",
}.items() for w in ws.split()]
JOBS = pairs("baker:bakes bread; farmer:grows food; doctor:helps sick people; teacher:teaches children; firefighter:puts out fires; "
             "tailor:sews clothes; carpenter:works with wood; painter:paints pictures; sailor:sails a ship; pilot:flies a plane; "
             "cook:cooks meals; potter:makes pots; shepherd:looks after sheep; gardener:takes care of plants; miller:grinds flour; "
             "blacksmith:works with iron; barber:cuts hair; dentist:looks after teeth; singer:sings songs; writer:writes books; "
             "shoemaker:makes shoes; weaver:makes cloth; plumber:fixes pipes; beekeeper:keeps bees; king:rules a land; astronaut:flies to space")
USES = pairs("cut paper:scissors; dig a hole:a shovel; sweep the floor:a broom; write a letter:a pen; eat soup:a spoon; hit a nail:a hammer; "
             "open a lock:a key; tell the time:a clock; cut bread:a knife; see at night:a lamp; catch fish:a net; brush your hair:a brush; "
             "sew a shirt:a needle; call a friend:a phone; climb a wall:a ladder; dry your hands:a towel; carry water:a bucket; "
             "light a candle:a match; see far things:a telescope; find north:a compass; row a boat:an oar; paint a wall:a brush; "
             "stay dry in the rain:an umbrella; wash your hands:soap")
SENSES = pairs("see:eyes; hear:ears; smell:nose; taste:tongue; walk:legs; hold things:hands; bite:teeth; think:brain; kick:feet; hug:arms")
MADE = pairs("bread:flour; cheese:milk; a window:glass; a table:wood; a book:paper; jam:fruit; a sweater:wool; honey:nectar; a nail:iron; "
             "a snowman:snow; a candle:wax; a castle wall:stone; ice:water; an omelet:eggs; a ring:gold; a tire:rubber; raisins:grapes")
PLACES = pairs("buy bread:at the bakery; borrow a book:at the library; swim:in the pool; see a play:in the theater; learn to read:at school; "
               "catch a train:at the station; mail a letter:at the post office; see lions:at the zoo; sleep:in a bed; cook dinner:in the kitchen; "
               "grow flowers:in the garden; build a sand castle:on the beach; take a bath:in the tub; park a car:in the garage; "
               "see a doctor:at the hospital; look at old things:in the museum; milk a cow:on a farm; keep your money:in the bank")
WHEN = pairs("do we sleep:We sleep at night; does the sun rise:The sun rises in the morning; do we eat breakfast:We eat breakfast in the morning; "
             "does it snow:It snows in winter; do leaves fall:Leaves fall in autumn; do flowers bloom:Flowers bloom in spring; "
             "do we see stars:We see stars at night; do we eat cake:We eat cake at a birthday party; do we open an umbrella:We open an umbrella when it rains; "
             "do we go to bed:We go to bed in the evening; is it hot:It is hot in summer; do owls wake up:Owls wake up at night")
WHY = pairs("do we sleep:We sleep because we are tired; do we eat:We eat because we are hungry; do we drink:We drink because we are thirsty; "
            "do we wear coats:We wear coats because it is cold; do birds build nests:Birds build nests for their eggs; "
            "do bees fly to flowers:Bees fly to flowers to find nectar; do plants need rain:Plants need rain to grow; "
            "do we laugh:We laugh because something is funny; do we say sorry:We say sorry because we did something wrong; "
            "do dogs bark:Dogs bark to warn us; do we wash our hands:We wash our hands to keep them clean; do we go to school:We go to school to learn")
LEGS = pairs("spider:eight; dog:four; bird:two; ant:six; snake:no; horse:four; bee:six; person:two; fish:no; cat:four; duck:two; table:four; cow:four; worm:no")
ABLE = [(a, v, yes) for v, can, cannot in (
    ("fly", "bird bee bat plane butterfly kite", "fish dog stone horse table tree"), ("swim", "fish duck whale frog otter", "stone cat chair rock house"),
    ("sing", "bird girl boy", "stone shoe spoon chair"), ("run", "horse dog fox wolf", "tree snail fish stone"), ("talk", "girl boy parrot", "stone cup shoe tree"),
    ("climb", "monkey cat squirrel", "fish cow whale"), ("float", "boat leaf cork", "stone nail key")) for a, yes in
    [(w, True) for w in can.split()] + [(w, False) for w in cannot.split()]]
SIZES = ("ant bee nut cherry mouse apple frog shoe bird book cat rabbit pumpkin dog goose chair sheep table wolf pig child door bear horse cow car "
         "tree elephant bus house ship castle mountain").split()
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()
MONTHS = "January February March April May June July August September October November December".split()
SPELL = "cat dog fox sun cup hat pig bus map nut boat bird fish tree moon star rain snow frog ship milk book lamp bear apple house mouse water bread".split()
SELF = pairs("Who are you:I am a very small language model; What can you do:I can tell short stories and answer small questions; "
             "Are you a person:No, I am a small model; Do you know everything:No, I only know a small world; How are you:I am fine, thank you; "
             "What do you like:I like short stories; Where do you live:I live in this web page; Hello:Hello; Good morning:Good morning; "
             "Thank you:You are welcome; Goodbye:Goodbye; Good night:Good night")


def held_out(key: str) -> bool:
    """True for the sixth of sums and comparisons that training never shows."""
    return zlib.crc32(key.encode()) % 6 == 0


def sums() -> list[tuple[str, str, bool]]:
    """(question, answer, held out) for all sums and differences up to ten and ten."""
    out = []
    for a in range(11):
        for b in range(11):
            x, y = NUMBERS[a], NUMBERS[b]
            out.append((f"How much is {x} plus {y}?", f"{x} plus {y} is {NUMBERS[a + b]}.", held_out(f"{a}+{b}")))
            if b <= a:
                out.append((f"How much is {x} minus {y}?", f"{x} minus {y} is {NUMBERS[a - b]}.", held_out(f"{a}-{b}")))
    return [(tidy(q), tidy(a), h) for q, a, h in out]


def sizes() -> list[tuple[str, str, bool]]:
    """(question, answer, held out) for all ordered pairs of SIZES, bigger and smaller."""
    out = []
    for i, x in enumerate(SIZES):
        for j, y in enumerate(SIZES):
            if i != j:
                big, small = (x, y) if i > j else (y, x)
                out.append((f"Which is bigger, a {x} or a {y}?", f"A {big} is bigger than a {small}.", held_out(f"{x}>{y}")))
                out.append((f"Which is smaller, a {x} or a {y}?", f"A {small} is smaller than a {big}.", held_out(f"{x}<{y}")))
    return [(tidy(q), tidy(a), h) for q, a, h in out]


def facts() -> dict[str, list[tuple[str, str]]]:
    """All fixed question/answer pairs by family."""
    out: dict[str, list[tuple[str, str]]] = {
        "sound": [x for a, s in SOUNDS for x in ((f"What does a {a} say?", f"A {a} says {s}."), (f"Which animal says {s}?", f"A {a} says {s}."))],
        "baby": [x for a, b in BABIES for x in ((f"What is a baby {a} called?", f"A baby {a} is called a {b}."), (f"What is a {b}?", f"A {b} is a baby {a}."))],
        "home": [(f"Where does a {a} live?", f"A {a} lives in {h}." if h != "the ice" and "farm" not in h else f"A {a} lives on {h}.") for a, h in HOMES],
        "opposite": [x for a, b in OPPOSITES for x in ((f"What is the opposite of {a}?", f"The opposite of {a} is {b}."), (f"What is the opposite of {b}?", f"The opposite of {b} is {a}."))],
        "color": [(f"What color is {a}?", f"{a} is {c}.") for a, c in COLORS],
        "kind": [(f"What is {a}?" if k in ("color", "season", "month", "planet", "drink") else f"What is a {a}?", f"{a} is a {k}." if k in ("color", "season", "month", "planet", "drink") else f"A {a} is a {k}.") for a, k in KINDS],
        "job": [x for a, d in JOBS for x in ((f"What does a {a} do?", f"A {a} {d}."), (f"Who {d}?", f"A {a} {d}."))],
        "use": [x for a, t in USES for x in ((f"What do you need to {a}?", f"You need {t} to {a}."),)],
        "sense": [(f"What do you use to {a}?", f"You {a} with your {b}.") for a, b in SENSES],
        "made": [(f"What is {a} made of?", f"{a} is made of {b}.") for a, b in MADE],
        "place": [(f"Where do you {a}?", f"You {a} {b}.") for a, b in PLACES],
        "when": [(f"When {a}?", f"{b}.") for a, b in WHEN],
        "why": [(f"Why {a}?", f"{b}.") for a, b in WHY],
        "legs": [(f"How many legs does a {a} have?", f"A {a} has {n} legs.") for a, n in LEGS],
        "able": [(f"Can a {a} {v}?", f"Yes, a {a} can {v}." if y else f"No, a {a} can not {v}.") for a, v, y in ABLE],
        "order": [(f"What comes {w} {a}?", f"{b} comes {w} {a}.") for seq in (NUMBERS, MONTHS, lex.CLASSES["day"], list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
                  for i in range(len(seq) - 1) for w, a, b in (("after", seq[i], seq[i + 1]), ("before", seq[i + 1], seq[i]))],
        "spell": [(f"How do you spell {w}?", f"{w} is spelled {'-'.join(w)}.") for w in SPELL],
        "self": [(f"{q}{'?' if q.split()[0] in ('Who', 'What', 'Are', 'Do', 'How', 'Where') else '!'}", a + ("!" if a == q else ".")) for q, a in SELF],
        "count": [(f"Count to {NUMBERS[n]}.", ", ".join(NUMBERS[1 : n + 1]) + ".") for n in range(2, 13)],
    }
    return {k: [(tidy(q), tidy(a)) for q, a in v] for k, v in out.items()}


FACTS = facts()
SUMS = [(q, a) for q, a, held in sums() if not held]
COMPARED = [(q, a) for q, a, held in sizes() if not held]
LISTED = {"fruits": "fruit", "vegetables": "veg", "colors": "color", "toys": "toy", "flowers": "flower", "days": "day", "trees": "tree",
          "animals": "animals", "names": "names", "instruments": "music"}


def open_question(rng: random.Random) -> tuple[str, str]:
    """A question with many right answers, or one that copies words."""
    if rng.random() < 0.5:
        many = rng.choice(list(LISTED))
        pool = {"animals": lex.CAST_ANIMALS, "names": lex.GIRLS + lex.BOYS}.get(many) or lex.CLASSES[LISTED[many]]
        n = rng.choice((2, 3, 4))
        words = rng.sample(pool, n)
        return f"Name {NUMBERS[n]} {many}.", tidy(", ".join(words[:-1]) + f" and {words[-1]}.")
    word = rng.choice(rng.choice(list(lex.CLASSES.values())))
    n = rng.choice((2, 3, 4))
    return f'Say "{word}" {NUMBERS[n]} times.', tidy(", ".join([word] * n) + ".")


def ask(rng: random.Random) -> tuple[str, str]:
    """One question and its answer, never one that is held out."""
    draw = rng.random()
    if draw < 0.1:
        return open_question(rng)
    if draw < 0.22:
        return rng.choice(SUMS)
    if draw < 0.34:
        return rng.choice(COMPARED)
    return rng.choice(FACTS[rng.choice(list(FACTS))])


