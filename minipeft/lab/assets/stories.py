"""A grammar of very short stories whose probability is known exactly.

The bundled models are pretrained on these texts. Two characters are somewhere, have something and
show a mood; then the text mentions those facts again, or asks about them and answers:

    mia was in rome . tom had a red ball . mia sobbed . how did mia feel ? mia felt sad .
    briefly : tom held a blue kite . ada was in oslo . where was ada ? oslo .

A text that opens with `briefly :` answers in one word, every other text in a whole sentence: one
model, two manners. The tasks of `minipeft.lab.tasks` want one word without that opening.

Every choice is uniform and every text has exactly one derivation, so the text's negative
log-probability is the sum of log(number of options) over the choices that made it. The mean of
that sum over many texts is the entropy of the grammar: no model can have a lower loss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

Choose = Callable[[Sequence[str]], str]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "mia tom ada ben eva leo ida max zoe sam lena paul nora finn rosa hugo vera otto "
    "emma noah ruth karl jana nils"
)
PLACES = _words("rome oslo lima cairo paris delhi tokyo berlin athens lisbon dublin vienna")
OBJECTS = _words(
    "ball kite drum book lamp cup hat coin bell rope boat key "
    "scarf shell spoon mirror basket candle whistle"
)
COLOURS = _words("red blue green white black yellow pink brown grey purple")
SIGNS = {  # mood -> what a character in that mood does; a verb belongs to one mood only
    "happy": ("laughed", "smiled", "danced", "cheered", "skipped"),
    "sad": ("sobbed", "sighed", "wept", "moped", "frowned"),
    "calm": ("rested", "dozed", "yawned", "stretched", "strolled"),
    "angry": ("shouted", "stamped", "raged", "scowled", "growled"),
    "brave": ("marched", "climbed", "charged", "leapt", "dived"),
    "afraid": ("trembled", "hid", "shivered", "fled", "crouched"),
}
MOODS = tuple(SIGNS)
KINDS = ("place", "thing", "sign")
_FUNCTION_WORDS = _words(
    "was in the had held a felt still briefly : . ? ! o called sang la "
    "where how did feel who what have"
)


def vocabulary() -> list[str]:
    """Every word the grammar can write, in a fixed order, each once."""
    verbs = [verb for signs in SIGNS.values() for verb in signs]
    return [*_FUNCTION_WORDS, *NAMES, *PLACES, *OBJECTS, *COLOURS, *MOODS, *verbs]


class Story(NamedTuple):
    """One text. `nats` is -log P(text); `first_nats` is -log P(its first word)."""

    text: str
    nats: float
    first_nats: float


class Fact(NamedTuple):
    """One thing told about one character, in the forms in which a text can return to it."""

    who: int  # character 0 or 1
    kind: str  # one of KINDS
    name: str
    short: str  # the answer in one word: rome, ball, sad
    asked: str  # where was mia ?   what did mia have ?   how did mia feel ?
    answer: str  # was in rome   had a red ball   felt sad
    seen: str  # was in rome   had the ball   sobbed
    again: str  # was still in rome   still had the red ball   felt sad
    detail: str = ""  # the colour of a thing, the verb of a sign


class Teller:
    """Tells one story, word by word.

    Args:
        choose: takes a sequence of different strings and returns one of them; what it returns
            is taken to be uniformly drawn.

    Attributes:
        words: the words so far.
        told: the facts told so far, in order.
        nats: -log of the probability of the choices so far.
        first_nats: the same for the choices that decided the first word.
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self.words: list[str] = []
        self.told: list[Fact] = []
        self.names: list[str] = []
        self.nats = self.first_nats = 0.0

    def choose(self, options: Sequence[str]) -> str:
        """Choose one of `options` and pay log(number of options) for it."""
        self.nats += math.log(len(options))
        return self._choose(options)

    def say(self, words: str) -> None:
        """Append words to the text."""
        if not self.words:
            self.first_nats = self.nats  # the first word reveals every choice made before it
        self.words += words.split()

    def name(self, who: int) -> str:
        """The character's name, chosen when the story first needs it."""
        if who == len(self.names):
            self.names.append(self.choose([n for n in NAMES if n not in self.names]))
        return self.names[who]

    def begin(self, brief: bool) -> None:
        """Say how the text answers, and who it is about: no other choice before the first word."""
        if brief:
            self.say("briefly :")
        self.say(self.name(0))

    def tell_facts(self, kinds: Sequence[str]) -> None:
        """After `begin`, tell a fact of each kind, the first about character 0.

        No kind is told twice, so that a question has one answer of its kind in the text.
        """
        for kind in kinds:
            who = self.choose(("0", "1")) if self.told else "0"
            self._tell(int(who), kind, name_said=not self.told)

    def _tell(self, who: int, kind: str, name_said: bool = False) -> None:
        name = self.name(who)
        subject = "" if name_said else name
        forms: tuple[str, ...]  # the fields of the fact from `short` on
        taken = {word for fact in self.told for word in (fact.short, fact.detail)}
        if kind == "place":
            place = self.choose([p for p in PLACES if p not in taken])
            self.say(f"{subject} was in {place} .")
            was = f"was in {place}"
            forms = (place, f"where was {name} ?", was, was, f"was still in {place}")
        elif kind == "thing":
            verb = self.choose(("had", "held"))
            colour = self.choose(COLOURS)
            thing = self.choose([o for o in OBJECTS if o not in taken])
            self.say(f"{subject} {verb} a {colour} {thing} .")
            forms = (thing, f"what did {name} have ?", f"had a {colour} {thing}",
                     f"had the {thing}", f"still had the {colour} {thing}", colour)  # fmt: skip
        else:
            mood = self.choose(MOODS)
            verb = self.choose([v for v in SIGNS[mood] if v not in taken])
            self.say(f"{subject} {verb} .")
            felt = f"felt {mood}"
            forms = (mood, f"how did {name} feel ?", felt, verb, felt, verb)
        self.told.append(Fact(who, kind, name, *forms))

    def add(self, form: str, brief: bool) -> None:
        """Add to the facts: `again` and `ask` return to one, `who` asks for its character."""
        if form == "voice":
            who = int(self.choose(("0", "1"))) if len(self.names) == 2 else 0
            name = self.name(who)
            if self.choose(("called", "sang")) == "called":
                self.say(f"{name} called : o {self.name(1 - who)} !")
            else:
                self.say(f"{name} sang :" + " la" * int(self.choose("123")) + " !")
            return
        fact = self.told[int(self.choose([str(i) for i in range(len(self.told))]))]
        if form == "again":
            self.say(f"{fact.name} {fact.again} .")
        elif form == "ask":
            self.say(f"{fact.asked} {fact.short if brief else f'{fact.name} {fact.answer}'} .")
        else:
            self.say(f"who {fact.seen} ? {fact.name if brief else f'{fact.name} {fact.seen}'} .")


def tell(choose: Choose, teller_class: type[Teller] = Teller) -> Teller:
    """Tell a whole text, every choice made by `choose`; returns the finished teller."""
    teller = teller_class(choose)
    brief = teller.choose(("brief", "plain")) == "brief"
    teller.begin(brief)
    kinds: list[str] = []
    for _ in range(int(teller.choose("23"))):
        kinds.append(teller.choose([kind for kind in KINDS if kind not in kinds]))
    teller.tell_facts(kinds)
    for _ in range(int(teller.choose("23"))):
        teller.add(teller.choose(("again", "ask", "who", "voice")), brief)
    return teller


def story(rng: random.Random) -> Story:
    """Draw one text from the grammar.

    Args:
        rng: the source of randomness; the same state gives the same text.

    Returns:
        `Story(text, nats, first_nats)`: lower case, words separated by one space.
    """
    teller = tell(rng.choice)
    return Story(" ".join(teller.words), teller.nats, teller.first_nats)
