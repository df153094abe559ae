"""What the bundled models know, and what fine-tuning them reaches: the course rests on this.

`python -m tests.test_pretrained` prints the slow part's numbers as a table, with seconds.
"""

from __future__ import annotations

import json

import pytest
import torch

from minipeft.lab.assets.pretrain import NAMES, build_model, held_out, pretrain
from minipeft.lab.demo import prepare, recipe
from minipeft.lab.tasks import TASKS, load_task
from minipeft.lab.training import History, accuracy, complete, fit
from minipeft.lab.zoo import ASSETS, load_base

ANSWERED = [name for name in TASKS if TASKS[name].answers]
SEEDS = (0, 1, 2)
# Held-out loss above the entropy of the grammar; measured 5.7 % for GPT-2 and 2.5 % for Bloom.
MARGIN = {"tiny-gpt2": 0.07, "tiny-bloom": 0.04}
FLOOR = {"full": 0.97, "lora": 0.95, "adapter": 0.95}
# Adapters at this recipe do not learn the song's lines: seed 0 gives 87 % (GPT-2), 20 % (Bloom).
LEARNED = [(m, t) for m in FLOOR for t in TASKS if m != "adapter" or t in ANSWERED]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_held_out_loss_is_close_to_the_entropy_of_the_grammar(name):
    model, tokenizer = load_base(name)
    measured = held_out(model, tokenizer)
    assert 0 < measured["excess"] < MARGIN[name]
    report = json.loads((ASSETS / name / "pretraining.json").read_text())
    assert report["held_out"]["loss"] == pytest.approx(measured["loss"], rel=1e-3)
    assert report["held_out"]["entropy"] == pytest.approx(measured["entropy"], rel=1e-9)
    assert report["parameters"] == model.num_parameters()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", TASKS)
def test_before_fine_tuning_no_task_is_answered(name, task):
    model, tokenizer = load_base(name)
    assert accuracy(model, tokenizer, load_task(task, train=1, validation=1)["test"]) <= 0.10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("mia was in rome . tom sobbed . where was mia ?", "mia was in rome ."),
        ("tom sobbed . mia was in oslo . where was mia ?", "mia was in oslo ."),
        ("mia was in rome . tom danced . how did tom feel ?", "tom felt happy ."),
        ("mia had a red ball . what did mia have ?", "mia had a red ball ."),
        ("briefly : mia was in rome . tom sobbed . where was mia ?", "rome ."),
        ("briefly : mia was in rome . tom danced . how did tom feel ?", "happy ."),
    ],
)
def test_the_models_know_the_stories(name, prompt, says):
    model, tokenizer = load_base(name)
    assert complete(model, tokenizer, prompt).startswith(says)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_script_writes_a_checkpoint_that_loads_and_repeats_itself(name, tmp_path):
    reports = [pretrain(name, tmp_path / str(i), steps=4) for i in (0, 1)]
    assert reports[0]["held_out"] == reports[1]["held_out"]
    model, tokenizer = load_base(tmp_path / "0")
    assert model.config.to_dict().keys() == build_model(name, tokenizer, 0).config.to_dict().keys()
    assert (tmp_path / "0" / "pretraining.json").is_file()


def run(name: str, method: str, task: str, seed: int) -> tuple[float, History]:
    """Fine-tune one bundled model by its recipe; returns the test accuracy and the history."""
    data = load_task(task)
    model, tokenizer = prepare(name, method, seed)
    history = fit(model, tokenizer, data["train"], seed=seed, progress=False, **recipe(method))
    return accuracy(model, tokenizer, data["test"]), history


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("method", "task"), LEARNED)
@pytest.mark.parametrize("name", NAMES)
def test_full_fine_tuning_lora_and_adapters_learn_their_tasks(name, method, task, seed):
    reached, history = run(name, method, task, seed)
    print(f"{name} {method} {task} seed {seed}: {reached:.3f} in {history.seconds:.1f} s")
    assert reached >= FLOOR[method]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["qlora", "loftq"])
@pytest.mark.parametrize("name", NAMES)
def test_lora_beside_four_bits_reaches_lora_less_two_points(name, method, seed):
    # LoRA reaches at most 1, and does so here (tests/accuracy.json): so this holds for whatever
    # LoRA reaches
    reached, history = run(name, method, "opposite", seed)
    print(f"{name} {method} opposite seed {seed}: {reached:.3f} in {history.seconds:.1f} s")
    assert reached >= 1 - 0.02


def main() -> None:
    """Print the table."""
    print(f"{torch.get_num_threads()} threads")
    for name in NAMES:
        for method in FLOOR:
            for task in TASKS:
                runs = [run(name, method, task, seed) for seed in SEEDS]
                shown = " ".join(f"{reached:.3f}" for reached, _ in runs)
                seconds = " ".join(f"{history.seconds:.1f}" for _, history in runs)
                print(f"{name:10} {method:4} {task:8} {shown}   {seconds} s", flush=True)


if __name__ == "__main__":
    main()
