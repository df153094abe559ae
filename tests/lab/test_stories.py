"""The grammar: its probabilities are exact because each text has exactly one derivation."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from minipeft.lab.assets.stories import MOODS, SIGNS, Teller, story, tell, vocabulary


class _Left(Exception):
    """A replayed derivation ran out of recorded choices, or left the text."""


def derivations(text: str) -> list[float]:
    """The nats of every derivation of `text`, by trying all choices and dropping wrong prefixes."""
    words = text.split()
    found: list[float] = []
    pending: list[list[str]] = [[]]  # prefixes of the sequence of choices
    while pending:
        made = pending.pop()
        replay = iter(made)
        tellers: list[Teller] = []

        def choose(options: Sequence[str], replay=replay, made=made, tellers=tellers) -> str:
            try:
                return next(replay)
            except StopIteration:
                pending.extend([*made, option] for option in options)
                raise _Left from None

        class Prefix(Teller):
            def say(self, said: str) -> None:
                super().say(said)
                if self.words != words[: len(self.words)]:
                    raise _Left

        try:
            teller = tell(choose, Prefix)
        except _Left:
            continue
        if teller.words == words:
            found.append(teller.nats)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_each_text_has_exactly_one_derivation_and_its_probability_is_the_reported_one(seed):
    told = story(random.Random(seed))
    (nats,) = derivations(told.text)
    assert nats == pytest.approx(told.nats, rel=1e-12)


def test_the_same_seed_tells_the_same_story():
    assert [story(random.Random(7)) for _ in range(3)] == [story(random.Random(7))] * 3


def test_the_probability_of_the_first_word_is_exact():
    rng = random.Random(0)
    count = 20_000
    first: Counter[str] = Counter()
    nats = {}
    for _ in range(count):
        told = story(rng)
        word = told.text.split()[0]
        first[word] += 1
        nats[word] = told.first_nats
    assert sum(math.exp(-n) for n in nats.values()) == pytest.approx(1)
    for word, n in nats.items():
        p = math.exp(-n)
        # Four standard deviations of a binomial share: one word in 600 runs of this test.
        assert abs(first[word] / count - p) < 4 * math.sqrt(p * (1 - p) / count), word


def test_the_vocabulary_is_closed_and_without_repetition():
    words = vocabulary()
    assert len(words) == len(set(words)) == 125  # with pad, eos and unk: 128, two blocks of 64
    rng = random.Random(1)
    used = Counter(word for _ in range(3000) for word in story(rng).text.split())
    assert set(used) == set(words)


def test_stories_are_short_and_a_verb_shows_one_mood():
    rng = random.Random(2)
    lengths = [len(story(rng).text.split()) for _ in range(3000)]
    assert max(lengths) < 64
    assert sum(lengths) / 3000 < 35
    verbs = [verb for mood in MOODS for verb in SIGNS[mood]]
    assert len(verbs) == len(set(verbs))
