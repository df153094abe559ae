"""One short fine-tune of each slow kind: what `make test` sees of learning.

A third of the recipe's steps on one task, one seed, and a floor of its own. Measured with seeds
0, 1 and 2 (chance is 0.17): full 1.00, 1.00, 0.91; LoRA 0.85, 0.81, 0.41; QLoRA 0.88, 0.85, 0.77.
The whole recipes on all models and tasks are in tests/long/test_pretrained.py.
"""

from __future__ import annotations

import pytest

from minipeft.lab.demo import prepare, recipe
from minipeft.lab.tasks import load_task
from minipeft.lab.training import accuracy, fit

pytestmark = pytest.mark.smoke
FLOOR = {"full": 0.8, "lora": 0.6, "qlora": 0.6}


@pytest.mark.parametrize("method", FLOOR)
def test_a_third_of_the_steps_teaches_much_of_the_task(method: str):
    data = load_task("opposite", test=200)
    model, tokenizer = prepare("tiny-gpt2", method, 0)
    options = recipe(method)
    options = {**options, "steps": options["steps"] // 3}
    fit(model, tokenizer, data["train"], seed=0, progress=False, **options)
    assert accuracy(model, tokenizer, data["test"]) >= FLOOR[method]
