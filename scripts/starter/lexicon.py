"""Words of the starter model's small world: classes that plots, questions and dialogues draw from.

Every class is a tuple of strings. Names carry a fixed gender, so that a pronoun always follows from a name;
names made of random syllables (see `grammar.invent_name`) teach the model to copy names it has never seen.
"""

GIRLS = tuple(
    "Mia Lily Anna Emma Rosa Nora Ella Ruby Zoe Clara Ivy Molly Lucy Maya Tess Sara Lena Kate Jane Amy Eva Nina Alma Greta Ada "
    "Iris Penny Daisy Hana Aisha Priya Mei Fatima Ingrid Wilma Polly Olga Yara Leila Carmen".split()
)
BOYS = tuple(
    "Tom Ben Sam Max Leo Tim Jack Finn Noah Oscar Otto Hugo Felix Paul Luke Omar Raj Kenji Ivan Peter Eli Adam Theo Jonas Emil "
    "Carlos Diego Samir Anton Milo Bruno Victor Ali Kofi Hans Walter Henry Oliver Arthur Nico".split()
)
SHE_ANIMALS = tuple("Hazel Dot Willow Bramble Pearl Fern Poppy Luna Misty Tilly Clover Nutmeg Juniper Maple".split())
HE_ANIMALS = tuple("Pip Rusty Bruno Moss Barley Flint Tuck Rowan Basil Bolt Sorrel Fudge Grumble Acorn".split())

ADULT_JOBS = tuple(
    "baker farmer tailor carpenter potter blacksmith gardener painter miller weaver shoemaker mason cook barber printer "
    "fisher shepherd merchant plumber beekeeper".split()
)
CAST_ANIMALS = tuple(
    "fox rabbit bear squirrel hedgehog mouse badger deer mole otter wolf frog turtle duck beaver raccoon goat pig cat dog "
    "hare lizard rat donkey weasel toad".split()
)

CLASSES: dict[str, tuple[str, ...]] = {
    "color": tuple("red blue green yellow purple orange pink brown black white gray golden silver".split()),
    "toy": tuple(
        "ball|kite|drum|doll|train|boat|robot|puzzle|truck|balloon|rocket|yo-yo|teddy bear|spinning top|toy car|toy horse|jump rope|puppet|"
        "toy plane|music box".split("|")
    ),
    "fruit": tuple("apple pear plum peach banana orange cherry mango melon lemon grape strawberry apricot fig".split()),
    "veg": tuple("carrot potato onion turnip pumpkin cabbage bean radish beet leek cucumber tomato".split()),
    "food": tuple("sandwich|cheese roll|pancake|bowl of soup|slice of pizza|piece of pie|bun|egg sandwich|muffin|waffle|pretzel".split("|")),
    "drink": tuple("tea|milk|cocoa|apple juice|lemonade|water|warm milk".split("|")),
    "flower": tuple("rose tulip daisy sunflower lily poppy violet bluebell".split()),
    "tree": tuple("oak pine birch willow maple elm beech linden".split()),
    "pet": tuple("cat dog rabbit hamster parrot goldfish pony kitten puppy".split()),
    "hat": tuple("hat cap scarf glove hood bonnet".split()),
    "clothes": tuple("coat jacket sweater scarf hat raincoat shawl".split()),
    "music": tuple("flute drum guitar violin piano trumpet harp fiddle".split()),
    "season": ("spring", "summer", "fall", "winter"),
    "day": tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
    "daytime": ("day", "morning", "afternoon", "evening"),
    "weather": tuple("sunny rainy windy cloudy snowy foggy warm cold bright cool gray stormy".split()),
    "park": ("park", "playground", "school yard", "garden", "meadow"),
    "shop": ("shop", "bakery", "market", "toy store", "post office", "library"),
    "spot": ("table", "shelf", "counter", "window sill"),
    "sad": ("sad", "lonely", "small", "left out"),
    "scared": ("scared", "afraid", "very scared"),
    "trait": tuple(
        "little kind clever curious cheerful quiet lively young funny gentle merry shy proud busy friendly dreamy stubborn".split()
    ),
    "home": (
        "a small house", "a yellow house", "a tall house", "a cottage by the sea", "a house near the forest", "a busy town",
        "a quiet village", "a little red house", "a house on a hill", "a big city", "a house on a quiet street",
    ),
    "wild": ("forest", "woods", "meadow", "valley", "hills", "marsh", "jungle"),
    "den": ("a hollow tree", "a den under a rock", "a cozy burrow", "a hut by the river", "a nest of leaves", "a hole under an old oak"),
    "town": ("a small town", "a village by the river", "a town near the sea", "a far country", "a land of green hills", "an old city"),
    "hobby": tuple(
        "to draw|to sing|to run|to read|to climb|to dance|to swim|to paint|to tell jokes|to collect stones|to look at stars|to bake|"
        "to play outside|to build things|to watch birds|to ask questions|to tell stories|to jump in puddles|to sleep late".split("|")
    ),
    "pick": tuple("bright pretty lovely fine small large".split()),
}

RELATIVES = (("mother", "f"), ("father", "m"), ("grandma", "f"), ("grandpa", "m"), ("aunt", "f"), ("uncle", "m"), ("mom", "f"), ("dad", "m"))

# What a story teaches: (what was learned, endings, the moral of the sample data set).
VIRTUES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "share": ("to share", ("From that day on, {A} always shared.", "Sharing made them both happy.", "{A} learned that it is more fun to share."),
              "Sharing makes everything better."),
    "honest": ("to tell the truth", ("{A} felt light and glad to have told the truth.", "From that day on, {A} always told the truth.", "{A} learned that it is best to be honest."),
               "Always tell the truth, even when it is hard."),
    "patient": ("to wait", ("{A} learned that good things take time.", "From then on, {A} was good at waiting.", "It was worth the wait."),
                "Good things come to those who wait."),
    "brave": ("to be brave", ("{A} was proud to be so brave.", "From that day on, {A} was not so afraid any more.", "{A} learned that being brave means to go on when you are scared."),
              "Be brave, even when you are scared."),
    "kind": ("to be kind", ("A kind heart had made a new friend.", "{A} learned that a little kindness goes a long way.", "And that is how kind {A} made a friend."),
             "A little kindness goes a long way."),
    "listen": ("to listen", ("From that day on, {A} listened to good advice.", "{A} learned to listen.", "Next time, {A} listened."),
               "Listen to good advice."),
    "practice": ("to keep trying", ("{A} was so glad to have kept trying.", "{A} learned that practice makes you better.", "All that practice was worth it."),
                 "Keep trying and you will get better."),
    "team": ("to work together", ("Together they could do anything.", "They learned to work together.", "From then on, they always worked together."),
             "We can do more when we work together."),
    "care": ("to take care of things", ("From that day on, {A} took good care of things.", "{A} learned to take care of things.", "{A} never forgot to take care again."),
             "Take good care of what you have."),
    "thanks": ("to say thank you", ("From that day on, {A} never forgot to say thank you.", "Two small words can make a big smile.", "{A} learned to be thankful."),
               "Never forget to say thank you."),
    "sorry": ("to say sorry", ("They were friends again.", "{A} learned that it is good to say sorry.", "After that, they were better friends than before."),
              "When you are wrong, say you are sorry."),
    "safe": ("to stop and think", ("{A} was safe and sound.", "From then on, {A} always stopped to think first.", "{A} learned to be careful."),
             "Stop and think before you act."),
    "help": ("to help others", ("One good turn had brought another.", "{A} was glad to have helped.", "{A} learned that help always comes back."),
             "Help others and they will help you."),
    "ask": ("to ask for help", ("From that day on, {A} was never afraid to ask.", "{A} learned that it is good to ask.", "It is smart to ask, thought {A}."),
            "Do not be afraid to ask."),
    "include": ("to let everyone join", ("There was room for everyone.", "From that day on, nobody was left out.", "{A} learned that there is always room for one more."),
                "There is always room for one more friend."),
    "work": ("to do the work first", ("From then on, {A} did the work first.", "{A} learned to work first and play later.", "Work first and play later, thought {A}."),
             "First do your work, then play."),
}
