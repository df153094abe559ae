"""`minipeft train`, whole: repeated, resumed, in two processes, interrupted; and real English."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from minipeft import MinipeftError, PeftModel
from minipeft.cli.main import app
from minipeft.finetune.checkpoints import checkpoints, last_checkpoint
from minipeft.finetune.measure import Shuffled, row_sums
from minipeft.finetune.run import run
from minipeft.finetune.settings import read_toml
from minipeft.lab.assets import __file__ as assets_file
from minipeft.lab.tasks import load_task
from minipeft.lab.training import loss_on
from minipeft.lab.zoo import load_base

pytestmark = pytest.mark.slow
REQUESTS = Path(assets_file).parent / "requests.jsonl"
ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def stories(tmp_path_factory: Any) -> Path:
    """80 rows of the task "mood" as a file."""
    file: Path = tmp_path_factory.mktemp("rows") / "mood.jsonl"
    rows = load_task("mood", train=80, validation=1, test=1)["train"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def settings_of(data: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "base": "tiny-gpt2", "data": str(data), "output": str(output), "steps": 8, "every": 2,
        "lr": 3e-3, "batch_size": 4, "device": "cpu", "option": {"lora_dropout": 0.2}, **more,
    }  # fmt: skip


def same(first: Path, second: Path) -> bool:
    one, two = load_file(first / ADAPTER), load_file(second / ADAPTER)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_leaves_what_repeats_it(stories: Path, tmp_path: Path):
    outcome = run(settings_of(stories, tmp_path / "a"), quiet=True)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "adapter_config.json", ADAPTER, "checkpoints", "loss.png", "run.json", "run.md", "run.toml",
    ]  # fmt: skip
    given = read_toml(tmp_path / "a" / "run.toml")
    run({**given, "output": str(tmp_path / "b")}, quiet=True)
    assert same(tmp_path / "a", tmp_path / "b")
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record == outcome.record
    assert record["state"] == "finished"
    assert record["parameters"]["trained"] == 8 * 5 * (128 + 384)  # GPT-2's c_attn, five layers
    assert record["data"]["rows"] + record["held_out"]["rows"] == 80
    card = (tmp_path / "a" / "run.md").read_text()
    assert record["data"]["digest"] in card
    assert f"{record['held_out']['base']['loss']:.4f} before training" in card


@pytest.mark.parametrize("method", ["lora", "p_tuning_v2"])  # the second is no identity at first
def test_held_out_numbers_are_per_label_and_the_best_is_what_is_saved(
    method: str, stories: Path, tmp_path: Path
):
    held = tmp_path / "held.jsonl"
    rows = load_task("mood", seed=1, train=30, validation=1, test=1)["train"]
    held.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings_of(stories, tmp_path / "a", validation=str(held), method=method, option={})
    record = run(given, quiet=True).record
    base, tokenizer = load_base("tiny-gpt2")
    # the package's own loop measures the same; both sum in float32, in other orders
    assert record["held_out"]["base"]["loss"] == pytest.approx(
        loss_on(base, tokenizer, rows), rel=1e-5
    )
    model = PeftModel.from_pretrained(base, tmp_path / "a")
    assert record["held_out"]["best"]["loss"] == pytest.approx(
        loss_on(model, tokenizer, rows), rel=1e-5
    )


def test_sums_of_a_row_by_hand():
    logits = torch.log(torch.tensor([[[0.1, 0.9], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]]]))
    labels = torch.tensor([[-100, 1, 0]])  # the first position is a virtual token
    loss, count, right = row_sums(logits, labels)[0].tolist()
    assert loss == pytest.approx(-torch.log(torch.tensor(0.5 * 0.2)).item())
    assert (count, right) == (2, 0)  # a tie goes to the first, and 0 is not 1
    assert row_sums(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))[0].tolist()[1:] == [1, 1]


def test_the_order_of_rows_has_every_row_once_a_pass():
    order = list(Shuffled(5, 12, seed=0))
    assert len(order) == len(Shuffled(5, 12, seed=0)) == 12
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order == list(Shuffled(5, 12, seed=0)) != list(Shuffled(5, 12, seed=1))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dora", "r": 2}, {"method": "p_tuning", "accumulate": 2},
        {"method": "prefix_tuning", "quantize": True}, {"bf16": True, "checkpointing": True},
        {"patience": 1, "lr": 3.0},
    ],
)  # fmt: skip
def test_options_take_effect(options: dict[str, Any], stories: Path, tmp_path: Path):
    given = settings_of(stories, tmp_path / "a", **{"option": {}, **options})
    record = run(given, quiet=True).record
    config = record["config"]
    assert config.get("use_dora", False) == (options.get("method") == "dora")
    assert config.get("r", 8) == options.get("r", 8)
    stopped = options.get("patience", 0) > 0
    assert ("stopped_early" in record["training"]) == stopped
    assert (record["training"]["steps_done"] < 8) == stopped


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "nothing.jsonl"}, "no file 'nothing.jsonl'"),
        ({"base": "no/such-model"}, "no model 'no/such-model'"),
        ({"max_length": 4000}, "max_length=4000 is more than the base reads: 128 positions"),
        ({"patience": 2, "validation": "0"}, "--validation is 0"),
        ({"batch_size": 6, "accumulate": 4}, "multiple of accumulate"),
        ({"validation": "0.99999"}, "leaves nothing to train on"),
        ({"option": {"lora_dropot": 0.1}}, "did you mean 'lora_dropout'"),
        ({"target": ["c_atn"]}, "did you mean 'c_attn'"),
        ({"packing": True}, "packing joins texts"),
    ],
)
def test_what_cannot_run_writes_nothing(
    given: dict[str, Any], said: str, stories: Path, tmp_path: Path
):
    with pytest.raises(MinipeftError) as caught:
        run({**settings_of(stories, tmp_path / "a"), **given}, quiet=True)
    assert said in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_folders_that_are_taken_and_runs_that_cannot_go_on(stories: Path, tmp_path: Path):
    given = settings_of(stories, tmp_path / "a")
    run(given, quiet=True)
    for more, options, said in (
        ({}, {}, "holds a run or an adapter already"),
        ({}, {"resume": True}, "is finished: there is nothing to resume"),
        ({"output": str(tmp_path / "b")}, {"resume": True}, "holds no run to resume"),
        ({"output": str(stories)}, {}, "is a file"),
    ):
        with pytest.raises(MinipeftError, match=said):
            run({**given, **more}, quiet=True, **options)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    (tmp_path / "a" / "run.json").write_text(json.dumps({**record, "state": "running"}))
    with pytest.raises(MinipeftError, match=r"keeps its settings: lr is 0.003 .* got 0.1"):
        run({"output": str(tmp_path / "a"), "lr": 0.1}, resume=True, quiet=True)
    stories_now = stories.read_text()
    try:
        stories.write_text(stories_now + stories_now.splitlines()[0] + "\n")
        with pytest.raises(MinipeftError, match="no longer what the run"):
            run({"output": str(tmp_path / "a")}, resume=True, quiet=True)
    finally:
        stories.write_text(stories_now)


def test_a_loss_that_is_no_number_ends_the_run(stories: Path, tmp_path: Path):
    with pytest.raises(MinipeftError, match="no number: take a lower --lr"):
        run(settings_of(stories, tmp_path / "a", lr=1e30, clip=1e30), quiet=True)


def test_the_command_line(stories: Path, tmp_path: Path):
    help_text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).stdout
    for flag in ("--base", "--data", "--method", "--r ", "--resume", "--config", "--patience"):
        assert flag in help_text
    command = [
        "train", "--base", "tiny-gpt2", "--data", str(stories), "-o", str(tmp_path / "a"),
        "--steps", "2", "--option", "lora_dropout=0.5", "--r", "2", "--device", "cpu",
    ]  # fmt: skip
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "step 2 of 2: loss" in result.output
    assert "tokens/s" in result.output
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 4, 0.5)
    again = ["train", "--config", str(tmp_path / "a" / "run.toml"), "-o", str(tmp_path / "b")]
    assert CliRunner().invoke(app, [*again, "--quiet"], catch_exceptions=False).output == ""
    assert same(tmp_path / "a", tmp_path / "b")
    result = CliRunner().invoke(app, ["train", "--option", "x"])
    assert "--option must be name=value" in str(result.exception)


def start(arguments: list[str], processes: int = 1, **environment: str) -> subprocess.Popen[str]:
    python = [sys.executable, "-m"]
    if processes > 1:
        python += ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port",
                   str(29500 + random.randrange(5000)), "-m"]  # fmt: skip
    return subprocess.Popen(
        [*python, "minipeft.cli", "train", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip


def options(stories: Path, output: Path, steps: int = 8) -> list[str]:
    return [
        "--base", "tiny-gpt2", "--data", str(stories), "-o", str(output), "--steps", str(steps),
        "--every", "2", "--lr", "3e-3", "--batch-size", "4", "--device", "cpu",
    ]  # fmt: skip


def test_two_processes_give_what_one_gives(stories: Path, tmp_path: Path):
    one, two = start(options(stories, tmp_path / "1")), start(options(stories, tmp_path / "2"), 2)
    for process in (one, two):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    first, second = (json.loads((tmp_path / n / "run.json").read_text()) for n in "12")
    assert (first["training"]["processes"], second["training"]["processes"]) == (1, 2)
    lasts = [checkpoints(tmp_path / n / "checkpoints")[-1] for n in "12"]
    states = [json.loads((last / "trainer_state.json").read_text()) for last in lasts]
    for key in ("loss", "eval_loss"):
        losses = [[row[key] for row in s["log_history"] if key in row] for s in states]
        # sums over rows in another order: float32's 2⁻²⁴, grown over eight steps of Adam
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    tensors = [load_file(tmp_path / n / ADAPTER) for n in "12"]
    for key in tensors[0]:
        torch.testing.assert_close(tensors[1][key], tensors[0][key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_checkpoint(number: signal.Signals, stories: Path, tmp_path: Path):
    process = start([*options(stories, tmp_path / "a", 5000), "--every", "1000"])
    place = tmp_path / "a" / "run.json"
    while not place.exists():
        time.sleep(0.1)
        assert process.poll() is None
    time.sleep(2)
    process.send_signal(number)
    output, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert f"stopped by {number.name}; go on: minipeft train --resume" in output
    last = last_checkpoint(tmp_path / "a" / "checkpoints")
    assert last is not None
    assert json.loads(place.read_text())["training"]["steps_done"] == int(last.name[11:])
    assert not (tmp_path / "a" / ADAPTER).exists()


@pytest.mark.parametrize("more", [{"steps": 60}, {"steps": 90, "patience": 2}], ids=str)
def test_a_run_killed_after_its_last_step_is_finished_by_resuming(
    more: dict[str, Any], stories: Path, tmp_path: Path
):
    """After its last step, or after it lost patience: the best stands, and no step is added."""
    # held out is the opposite of what is learned: the best comes early, and is not the last
    held = tmp_path / "opposite.jsonl"
    rows = load_task("opposite", train=20, validation=1, test=1)["train"]
    held.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings_of(
        stories, tmp_path / "a", every=5, validation=str(held), lr=1e-2, target=["all-linear"],
        **more,
    )  # fmt: skip
    first = run(given, quiet=True).record
    steps = first["training"]["steps_done"]
    assert first["held_out"]["best_step"] < 60
    assert (steps < more["steps"]) is ("patience" in more)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    (tmp_path / "a" / "run.json").write_text(json.dumps({**record, "state": "running"}))
    (tmp_path / "a" / ADAPTER).rename(tmp_path / ADAPTER)
    again = run({"output": str(tmp_path / "a")}, resume=True, quiet=True).record
    assert again["training"]["steps_done"] == steps
    assert again["held_out"] == first["held_out"]
    assert same(tmp_path, tmp_path / "a")


def child(given: dict[str, Any], resume: bool) -> int:
    """Run in a fork of this process, where everything is imported; the child's number."""
    number = os.fork()
    if number:
        return number
    try:
        torch.set_num_threads(1)
        run(given, resume=resume, quiet=True)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def test_twenty_kills_at_random_moments(stories: Path, tmp_path: Path):
    given = settings_of(stories, tmp_path / "whole", steps=400, every=4)
    _, status = os.waitpid(child(given, False), 0)
    assert status == 0
    rng, kills, place = random.Random(0), 0, tmp_path / "killed"
    given["output"] = str(place)
    for _ in range(21):
        resume = (place / "run.toml").exists()
        number = child({"output": str(place)} if resume else given, resume)
        # some fall before the first step, and twenty together do not reach the last one
        limit = time.monotonic() + rng.uniform(0.2, 0.9) if kills < 20 else 1e18
        done = 0
        while not done and time.monotonic() < limit:
            done, status = os.waitpid(number, os.WNOHANG)
            time.sleep(0.002)
        if done:
            assert status == 0
            break
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        kills += 1
        for whole in checkpoints(place / "checkpoints"):  # none is torn
            load_file(whole / ADAPTER)
            for name in ("optimizer.pt", "scheduler.pt"):
                torch.load(whole / name)
    assert kills == 20
    assert same(tmp_path / "whole", place)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_english_is_learned(seed: int, tmp_path: Path):
    """Held out are whole topics. Measured: 4.25 to 2.55, 4.33 to 2.53, 4.15 to 2.50."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    random.Random(seed).shuffle(names)
    for file, chosen in (("held.txt", names[:8]), ("train.txt", names[8:])):
        (tmp_path / file).write_text("\n\n".join(topics[name] for name in chosen))
    record = run(
        {"base": "tiny-llama", "data": str(tmp_path / "train.txt"), "steps": 60, "seed": seed,
         "validation": str(tmp_path / "held.txt"), "output": str(tmp_path / "a"), "batch_size": 8,
         "target": ["all-linear"], "max_length": 128, "device": "cpu"},
        quiet=True,
    ).record  # fmt: skip
    held = record["held_out"]
    print(seed, held, record["training"]["seconds"])
    assert held["best"]["loss"] < held["base"]["loss"] - 1.2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_requests_are_told_apart(seed: int, tmp_path: Path):
    """Six classes, 48 examples of each; 72 held out. Measured: 53, 42 and 44 % right of 15 to 18.

    The best of ten looks is chosen on the same rows, which flatters it: by a few percent.
    """
    record = run(
        {"base": "tiny-llama", "data": str(REQUESTS), "validation": "0.2", "steps": 150,
         "output": str(tmp_path / "a"), "target": ["all-linear"], "lr": 2e-3, "seed": seed,
         "option": {"lora_dropout": 0.2}, "device": "cpu"},
        quiet=True,
    ).record  # fmt: skip
    held = record["held_out"]
    print(seed, held, record["training"]["seconds"])
    assert held["best"]["accuracy"] > held["base"]["accuracy"] + 0.15


def test_a_chat_is_learned_and_answered(tmp_path: Path):
    """Conversations from a file to an adapter that answers as they do."""
    answers = {
        "What reads a file?": "open reads a file.",
        "What ends a loop?": "break ends a loop.",
    }
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in answers.items()
    ]
    file = tmp_path / "chat.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows * 8))
    given = {
        "base": "tiny-llama", "data": str(file), "output": str(tmp_path / "a"), "steps": 60,
        "batch_size": 4, "lr": 1e-2, "device": "cpu", "validation": "0", "target": ["all-linear"],
    }  # fmt: skip
    record = run(given, quiet=True).record
    assert record["data"]["kind"] == "chat"
    _, tokenizer = load_base("tiny-llama")
    texts = [f" {answer}{tokenizer.eos_token}" for answer in answers.values()]
    counted = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    assert record["data"]["labels_counted"] == 8 * counted  # what the assistant says, and no more
    for question, answer in answers.items():
        said = CliRunner().invoke(app, [
            "generate", "--base", "tiny-llama", "--adapter", str(tmp_path / "a"), "--chat",
            "-p", question, "--max-new-tokens", "20",
        ])  # fmt: skip
        assert said.stdout.strip() == answer


@pytest.mark.parametrize("whom", ["the launcher", "one worker"])
def test_a_signal_to_two_processes_ends_both_with_a_checkpoint(
    whom: str, stories: Path, tmp_path: Path
):
    process = start([*options(stories, tmp_path / "a", 5000), "--every", "1000"], 2)
    place = tmp_path / "a" / "run.json"
    while not place.exists():
        time.sleep(0.1)
        assert process.poll() is None
    time.sleep(3)
    assert last_checkpoint(tmp_path / "a" / "checkpoints") is None  # the first is far away
    workers = psutil.Process(process.pid).children()
    target = process if whom == "the launcher" else workers[-1]
    target.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not any(worker.is_running() for worker in workers)
    last = last_checkpoint(tmp_path / "a" / "checkpoints")
    assert last is not None
    assert json.loads(place.read_text())["training"]["steps_done"] == int(last.name[11:])
    assert load_file(last / ADAPTER)


def test_a_killed_worker_ends_the_run_with_whole_checkpoints(stories: Path, tmp_path: Path):
    process = start([*options(stories, tmp_path / "a", 5000), "--every", "5"], 2)
    place = tmp_path / "a" / "checkpoints"
    while last_checkpoint(place) is None:
        time.sleep(0.1)
        assert process.poll() is None
    psutil.Process(process.pid).children()[-1].kill()
    process.communicate(timeout=120)
    assert process.returncode != 0
    last = last_checkpoint(place)
    assert last is not None
    assert load_file(last / ADAPTER)
    torch.load(last / "optimizer.pt")
    steps = int(last.name[11:])
    more = start(["--resume", "-o", str(tmp_path / "a")])  # and another number of processes
    while not any(int(p.name[11:]) > steps for p in checkpoints(place)):
        time.sleep(0.1)
        assert more.poll() is None
    more.kill()
    more.communicate()
