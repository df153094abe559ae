"""Four small tasks on the stories that the bundled models were pretrained on.

Each asks something different of a fine-tuning method:

- `mood` *elicits*: the model knows which mood a verb shows, and only has to answer in one word;
- `opposite` *contradicts*: the same prompts, but the opposite mood is right;
- `where` *copies*: the answer, one of twelve places, stands only in the story;
- `style` is *generative*: a line of ten words in the style of a song, put together from the story.

The prompts are made of sentences that the model has read in pretraining, and it continues them
fluently, but with something else: asked how mia felt, it answers in a whole sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from minipeft.checks.errors import ConfigError
from minipeft.checks.say import did_you_mean, listed
from minipeft.lab.assets.stories import KINDS, MOODS, PLACES, Teller

if TYPE_CHECKING:
    from datasets import DatasetDict

OPPOSITE = {
    "happy": "sad",
    "sad": "happy",
    "calm": "angry",
    "angry": "calm",
    "brave": "afraid",
    "afraid": "brave",
}


class Task(NamedTuple):
    """What a task asks, and the words that can answer it (none where the answer is a line)."""

    description: str
    answers: tuple[str, ...]
    example: Callable[[random.Random], tuple[str, str]]  # -> (prompt, completion)


def _facts(rng: random.Random, *needed: str) -> Teller:
    """Two or three facts about one or two characters, one of each needed kind among them."""
    others = [kind for kind in KINDS if kind not in needed]
    kinds = [*needed, *rng.sample(others, rng.choice((2, 3)) - len(needed))]
    teller = Teller(rng.choice)
    teller.begin(brief=False)
    teller.tell_facts(rng.sample(kinds, len(kinds)))
    return teller


def _ask(rng: random.Random, kind: str) -> tuple[str, str]:
    """A story, a question about its fact of this kind, and the answer in one word."""
    teller = _facts(rng, kind)
    (fact,) = (fact for fact in teller.told if fact.kind == kind)
    return f"{' '.join(teller.words)} {fact.asked}", f" {fact.short}"


def _mood(rng: random.Random) -> tuple[str, str]:
    return _ask(rng, "sign")


def _opposite(rng: random.Random) -> tuple[str, str]:
    prompt, completion = _mood(rng)
    return prompt, f" {OPPOSITE[completion.strip()]}"


def _where(rng: random.Random) -> tuple[str, str]:
    return _ask(rng, "place")


def _style(rng: random.Random) -> tuple[str, str]:
    teller = _facts(rng, "place", "thing")
    place, thing = (f for kind in ("place", "thing") for f in teller.told if f.kind == kind)
    line = f" o {thing.detail} {thing.short} ! o {place.short} ! o {thing.name} !"
    return f"{' '.join(teller.words)} {thing.name} sang :", line


TASKS: dict[str, Task] = {
    "mood": Task("name the mood that a character's action shows", MOODS, _mood),
    "opposite": Task("name the opposite of that mood", MOODS, _opposite),
    "where": Task("name the place that the story names", PLACES, _where),
    "style": Task("sing of the thing, of the place, and of who has the thing", (), _style),
}

# What `minipeft.lab.training.fit` is called with, for the configs of `minipeft.lab.demo.METHODS`.
# The learning rates are the best of a small sweep: `make accuracy` repeats it (tests/ACCURACY.md).
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"steps": 300, "lr": 2e-3, "batch_size": 16},
    **{
        method: {"steps": 500, "lr": lr, "batch_size": 16}
        for method, lr in {
            "lora": 3e-3,
            "adapter": 3e-3,
            "ia3": 0.3,
            "bitfit": 3e-2,
            "prefix_tuning": 1.0,
            "p_tuning_v2": 0.3,
            "p_tuning": 3e-2,
            "prompt_tuning": 0.1,
        }.items()
    },
}


def load_task(
    name: str, *, seed: int = 0, train: int = 2000, validation: int = 200, test: int = 500
) -> DatasetDict:
    """Build one task.

    Args:
        name: one of `TASKS`: "mood", "opposite", "where" or "style".
        seed: the same seed and sizes give the same examples in the same order.
        train, validation, test: the number of examples in each split.

    Returns:
        A `datasets.DatasetDict` with splits "train", "validation" and "test" and the string
        columns "prompt" and "completion"; the model reads the two joined as they are. No prompt
        stands in two splits, or twice in one.

    Raises:
        ConfigError: the name is unknown, or a size is not a positive integer.
    """
    from datasets import Dataset, DatasetDict

    if name not in TASKS:
        raise ConfigError(
            f"no task {name!r}; the tasks are {listed(TASKS)}{did_you_mean(str(name), TASKS)}"
        )
    sizes = {"train": train, "validation": validation, "test": test}
    for split, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(f"{split} must be a positive integer, got {size!r}")
    rng = random.Random(f"{seed}")  # a string seed is hashed, so neighbouring seeds differ well
    rows: dict[str, str] = {}  # prompt -> completion: a prompt that comes again is skipped
    while len(rows) < sum(sizes.values()):
        prompt, completion = TASKS[name].example(rng)
        rows.setdefault(prompt, completion)
    left = iter(rows.items())
    splits = {}
    for split, size in sizes.items():
        pairs = [next(left) for _ in range(size)]
        prompts, completions = zip(*pairs, strict=True)
        columns = {"prompt": list(prompts), "completion": list(completions)}
        splits[split] = Dataset.from_dict(columns)
    return DatasetDict(splits)
