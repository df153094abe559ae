"""The table of accuracies: what it must show, and that a run of today gives its numbers."""

from __future__ import annotations

import pytest
from accuracy import CHANCE, PAGE, SEEDS, TASKS, best, page, results, train

from minipeft.lab.assets.pretrain import NAMES
from minipeft.lab.tasks import RECIPES
from minipeft.lab.tasks import TASKS as KNOWN

METHODS = [name for name in RECIPES if name != "full"]


def reached(base: str, method: str, task: str) -> list[float]:
    known, lr = results(), RECIPES[method]["lr"]
    return [known[("table", base, method, task, lr, seed)]["accuracy"] for seed in SEEDS]


def test_the_page_says_what_the_file_holds():
    assert PAGE.read_text(encoding="utf-8") == "\n".join(page()) + "\n"


def test_chance_is_one_of_the_answers():
    assert {task: 1 / len(KNOWN[task].answers) for task in TASKS} == CHANCE


def test_the_learning_rates_are_the_best_of_the_sweep():
    assert best(results()) == {method: RECIPES[method]["lr"] for method in METHODS}


@pytest.mark.parametrize("base", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_at_least_doubles_chance_on_one_task(base: str, method: str):
    assert any(min(reached(base, method, task)) >= 2 * CHANCE[task] for task in TASKS)


@pytest.mark.parametrize("base", NAMES)
def test_a_task_separates_the_best_method_from_the_worst(base: str):
    means = {
        task: [sum(reached(base, method, task)) / len(SEEDS) for method in METHODS]
        for task in TASKS
    }
    assert max(max(values) - min(values) for values in means.values()) >= 0.20


@pytest.mark.slow
@pytest.mark.parametrize("base", NAMES)
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("lora", "adapter")])
def test_a_run_of_today_doubles_chance_as_the_table_says(base: str, method: str):
    """On seed 0 only; LoRA, adapters and full fine-tuning are run in test_pretrained.py."""
    learned = [t for t in TASKS if reached(base, method, t)[0] >= 2 * CHANCE[t]]
    row = train(("table", base, method, learned[0], RECIPES[method]["lr"], 0))
    assert row["accuracy"] >= 2 * CHANCE[learned[0]]
