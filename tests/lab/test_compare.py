"""The comparison: equal terms, a fair choice, nothing done twice, and the committed results."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from minipeft.checks.errors import CheckpointError
from minipeft.lab import compare
from minipeft.lab.compare import __main__ as command
from minipeft.lab.compare import frontier, load, runs, versions, write
from minipeft.lab.compare.runs import RATE_TASKS, RATES, SEEDS, TASKS, Run
from minipeft.lab.demo import METHODS

numbers = st.integers(0, 4).map(float)


@given(st.dictionaries(st.text("abcdef", min_size=1), st.tuples(numbers, numbers), max_size=12))
def test_the_frontier_beats_all_others_and_nothing_in_it_is_beaten(points):
    front = frontier(points)

    def beats(a, b):
        return a[0] <= b[0] and a[1] <= b[1] and (a[0] < b[0] or a[1] < b[1])

    inside = [points[name] for name in front]
    assert not any(beats(a, b) for a, b in product(inside, inside))
    for name in points.keys() - set(front):
        assert any(beats(a, points[name]) for a in inside)
    assert [p[0] for p in inside] == sorted(p[0] for p in inside)


def sweep(**special: float) -> list[dict[str, Any]]:
    """Losses of 1 at every rate, but where `special` says otherwise; and rows of other stages."""
    rows = []
    for method, rates in RATES.items():
        for task, (at, lr) in product(RATE_TASKS, enumerate(rates)):
            loss = special.get(f"{method}_{task}_{at}", 1.0)
            rows.append({"stage": "rates", "method": method, "task": task, "lr": lr, "loss": loss})
            rows.append({**rows[-1], "stage": "table", "loss": -at})
    return rows


def test_the_rate_with_the_lowest_sum_is_chosen():
    # rate 1 is best on one task alone, rate 2 on both together
    rows = sweep(lora_where_1=0.1, lora_opposite_1=2.0, lora_where_2=0.6, lora_opposite_2=0.6)
    assert runs.chosen(rows)["lora"] == RATES["lora"][2]


def test_a_rate_that_diverged_is_not_chosen():
    rows = sweep(full_where_0=math.nan, full_opposite_2=0.5)
    assert runs.chosen(rows)["full"] == RATES["full"][2]


def test_what_there_is_to_run():
    rates = {method: of[1] for method, of in RATES.items()}
    table = [run for run in runs.table_runs(rates, 7) if run.stage == "table"]
    assert {(r.method, r.task, r.seed) for r in table} == set(product(METHODS, TASKS, SEEDS))
    assert {run.steps for run in table} == {7}
    assert {run.lr for run in table if run.method == "qlora"} == {rates["lora"]}
    # what chooses the rate is not what the table measures
    assert {run.seed for run in runs.rate_runs(7)}.isdisjoint(SEEDS)


def test_known_runs_are_not_done_again(monkeypatch):
    todo = [Run("rates", "lora", "where", lr, 100) for lr in RATES["lora"]]
    known = [{**run._asdict(), "loss": 1.0} for run in todo]
    assert list(runs.perform(todo, known, jobs=1)) == []


def test_one_run_measures_what_it_says():
    run = Run("table", "ia3", "where", 0.3, 0, steps=2)
    row = runs.train(run)
    assert {field: row[field] for field in Run._fields} == run._asdict()
    assert row["trained"] == 4480
    assert 0 <= row["accuracy"] <= 1
    assert runs.train(run) == {**row, "cpu": pytest.approx(row["cpu"], rel=50)}


def test_the_rank_is_used():
    run = Run("ranks", "lora", "where", 1e-3, 0, rank=2, steps=1)
    assert runs.train(run)["trained"] == 81_920 // 4


def test_forgetting_is_nothing_where_nothing_was_trained():
    run = Run("table", "lora", "where", 0.0, 0, steps=1)
    assert runs.train(run)["forgetting"] == 0


def test_costs_are_those_of_the_tensors():
    from minipeft.lab.compare.costs import Step

    full, lora, packed = (Step(method) for method in ("full", "lora", "qlora"))
    for step in (full, lora, packed):
        step()
    row = full.row(1.0)
    assert row["weights"] == row["gradients"] == row["stored"] == 4 * 1_024_384
    assert row["moments"] == 2 * row["gradients"]
    row = lora.row(1.0)
    assert (row["trained"], row["stored"], row["moments"]) == (81_920, 4 * 81_920, 8 * 81_920)
    assert row["weights"] == 4 * (1_024_384 + 81_920)
    # five blocks of 12 · 128² weights at 4.127 bits; the rest as it was
    linear = 5 * 12 * 128 * 128
    want = 4 * (1_024_384 + 81_920 - linear) + linear * (4 + 8 / 64) / 8
    assert packed.row(1.0)["weights"] == pytest.approx(want, rel=0.01)
    # autograd keeps at least the input of each block's layers: 16 rows, 5 blocks, 4 · 128 + 512
    tokens = full.batch["input_ids"].numel()
    assert full.kept() > 4 * tokens * 5 * 128 * 7


def test_the_results_are_written_and_read_again(tmp_path: Path):
    results = command.fresh(3)
    results["runs"] = [{**Run("rates", "lora", "where", 1e-3, 100)._asdict(), "loss": 1.0}]
    file = tmp_path / "results.json"
    write(file, results)
    assert load(file) == results
    # a line for each field and run, and one for each bracket
    assert len(file.read_text().splitlines()) == 11
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": []}'])
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(CheckpointError, match=r"python -m minipeft\.lab\.compare"):
        load(file)


def test_results_of_other_versions_are_not_mixed(tmp_path: Path):
    results = command.fresh(300) | {"versions": versions() | {"torch": "1.0"}}
    file = tmp_path / "results.json"
    write(file, results)
    before = file.read_text()
    app = Typer()
    app.command()(command.main)
    said = CliRunner().invoke(app, ["--output", str(file)])
    assert said.exit_code == 2
    assert "--anew" in said.output
    assert file.read_text() == before


RESULTS = load() if compare.RESULTS.is_file() else command.fresh(0)


def test_the_committed_results_are_complete():
    rows = RESULTS["runs"]
    best = runs.chosen(rows)
    want = runs.rate_runs(RESULTS["steps"]) + runs.table_runs(best, RESULTS["steps"])
    got = [tuple(row[field] for field in Run._fields) for row in rows]
    assert sorted(map(str, got)) == sorted(str(tuple(run)) for run in want)
    assert [c["method"] for c in RESULTS["costs"]] == list(METHODS)
    assert set(RESULTS["versions"]) == set(versions())
    assert RESULTS["steps"] == runs.STEPS
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] >= 0 for row in rows)
    trained = {c["method"]: c["trained"] for c in RESULTS["costs"]}
    assert all(r["trained"] == trained[r["method"]] for r in rows if r["stage"] != "ranks")


def test_the_committed_file_is_small():
    assert compare.RESULTS.stat().st_size < 100_000
    assert json.loads(compare.RESULTS.read_text())["base"] == "tiny-gpt2"
