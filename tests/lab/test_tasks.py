"""The four tasks: shape, balance, disjoint splits, and right answers found independently."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from minipeft.checks.errors import ConfigError
from minipeft.lab.assets.stories import SIGNS, vocabulary
from minipeft.lab.tasks import OPPOSITE, TASKS, load_task

MOOD_OF = {verb: mood for mood, verbs in SIGNS.items() for verb in verbs}


@pytest.mark.parametrize("name", TASKS)
def test_sizes_columns_and_disjoint_splits(name):
    data = load_task(name)
    assert {split: len(rows) for split, rows in data.items()} == {
        "train": 2000, "validation": 200, "test": 500,
    }  # fmt: skip
    for rows in data.values():
        assert rows.column_names == ["prompt", "completion"]
    prompts = [p for rows in data.values() for p in rows["prompt"]]
    assert len(set(prompts)) == len(prompts) == 2700


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(name):
    sizes = {"train": 20, "validation": 5, "test": 5}
    one, same, other = (load_task(name, seed=s, **sizes) for s in (1, 1, 2))
    assert one["train"]["prompt"] == same["train"]["prompt"]
    assert one["test"]["completion"] == same["test"]["completion"]
    assert not set(one["train"]["prompt"]) & set(other["train"]["prompt"])


@pytest.mark.parametrize("name", TASKS)
def test_every_word_is_one_that_the_models_have_read(name):
    data = load_task(name, train=300, validation=1, test=1)
    known = set(vocabulary())
    for row in data["train"]:
        assert row["completion"].startswith(" ")
        assert set((row["prompt"] + row["completion"]).split()) <= known
        assert len((row["prompt"] + row["completion"]).split()) <= 40


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name].answers])
def test_answers_are_single_words_about_equally_frequent(name):
    count = Counter(row.strip() for row in load_task(name)["train"]["completion"])
    answers = TASKS[name].answers
    assert set(count) == set(answers)
    assert len(answers) >= 4
    # A share of 1/k in 2000 draws has this standard deviation; five of them allow for k answers.
    p = 1 / len(answers)
    assert max(abs(n / 2000 - p) for n in count.values()) < 5 * (p * (1 - p) / 2000) ** 0.5


def test_mood_and_opposite_have_the_same_prompts_and_contrary_answers():
    mood, opposite = load_task("mood")["test"], load_task("opposite")["test"]
    assert mood["prompt"] == opposite["prompt"]
    for row, other in zip(mood, opposite, strict=True):
        name = re.search(r"how did (\w+) feel \?$", row["prompt"]).group(1)
        (shown,) = [MOOD_OF[v] for v in re.findall(rf"\b{name} (\w+) \.", row["prompt"])
                    if v in MOOD_OF]  # fmt: skip
        assert row["completion"] == f" {shown}"
        assert other["completion"] == f" {OPPOSITE[shown]}"
    assert all(OPPOSITE[OPPOSITE[mood]] == mood != OPPOSITE[mood] for mood in OPPOSITE)


def test_where_asks_for_the_one_place_that_the_story_names():
    for row in load_task("where")["test"]:
        ((name, place),) = re.findall(r"(\w+) was in (\w+) \.", row["prompt"])
        assert row["prompt"].endswith(f" where was {name} ?")
        assert row["completion"] == f" {place}"


def test_style_sings_of_the_thing_the_place_and_who_has_the_thing():
    for row in load_task("style")["test"]:
        ((_, place),) = re.findall(r"(\w+) was in (\w+) \.", row["prompt"])
        ((name, colour, thing),) = re.findall(r"(\w+) (?:had|held) a (\w+) (\w+) \.", row["prompt"])
        assert row["prompt"].endswith(f" {name} sang :")
        assert row["completion"] == f" o {colour} {thing} ! o {place} ! o {name} !"


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="did you mean 'mood'"):
        load_task("moood")
    with pytest.raises(ConfigError, match="test must be a positive integer, got 0"):
        load_task("mood", test=0)
