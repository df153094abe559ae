"""`minipeft count`: every method by name, options as name=value, mistakes answered in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import minipeft.lab.assets
from minipeft.checks.errors import MinipeftError
from minipeft.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gpt2 --r 8", "294,912 of 124,734,720"),
        ("gpt2 --method ia3", "64,512 of 124,504,320"),
        ("gpt2 --method bitfit", "102,144"),
        ("gpt2 --method adapter", "2,379,264"),
        ("gpt2 --method prompt_tuning --option num_virtual_tokens=10", "7,680"),
        (
            "gpt2 --method prefix_tuning --option num_virtual_tokens=10 "
            "--option prefix_projection=true",
            "14,772,480",
        ),
        ("gpt2 --method ia3 --option fused_qkv=kv", "55,296"),
        ("gpt2 --method lora --target all-linear --option r=16", "2,359,296"),
    ],
)
def test_counts(arguments: str, said: str):
    result = CliRunner().invoke(app, ["count", *arguments.split()], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gpt2 --method prfix", "no method 'prfix'"),
        ("gpt2 --method ia3 --r 3", "IA3Config has no option 'r'"),
        ("gpt2 --option r", "--option must be name=value, got 'r'"),
        ("gpt2 --method prompt_tuning", "num_virtual_tokens must be a positive integer, got None"),
        ("llama-2-7b --method bitfit", "has no biases"),
    ],
)
def test_mistakes(arguments: str, said: str):
    result = CliRunner().invoke(app, ["count", *arguments.split()])
    assert isinstance(result.exception, MinipeftError)
    assert said in str(result.exception)


def test_a_mistake_ends_in_one_line_and_no_traceback():
    command = [sys.executable, "-m", "minipeft.cli", "count", "gpt2", "--method", "x"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("minipeft: no method 'x'")
    assert "Traceback" not in result.stderr


def test_any_model_is_counted_from_its_config():
    folder = Path(minipeft.lab.assets.__file__).parent / "tiny-gpt2"
    result = CliRunner().invoke(app, ["count", "--base", str(folder), "--r", "4"])
    assert result.stdout.startswith("10,240 of 1,034,624 (0.9897 %) = 5 x 2,048 beside (128, 384)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "count needs one model: a known name (minipeft count gpt2), or --base FOLDER"),
        ("gpt2 --base tiny-gpt2", "count needs one model"),
        ("gpt3", "there are no dimensions for 'gpt3'; did you mean 'gpt2'?"),
        ("--base /no/where", "no model '/no/where': neither a folder with a config.json"),
    ],
)
def test_a_model_must_be_one_and_known(arguments: str, said: str):
    result = CliRunner().invoke(app, ["count", *arguments.split()])
    assert isinstance(result.exception, MinipeftError)
    assert said in str(result.exception)


def test_versions_and_mistyped_words():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert f"minipeft {version('minipeft')}, torch {version('torch')}" in result.stdout
    result = CliRunner().invoke(app, ["trian"])
    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.output
    result = CliRunner().invoke(app, ["train", "--bse", "tiny-gpt2"])
    assert result.exit_code == 2
    assert "--base" in result.output


def test_debug_shows_where_an_error_came_from():
    command = [sys.executable, "-m", "minipeft.cli", "--debug", "count", "gpt3"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "counting.py" in result.stderr
