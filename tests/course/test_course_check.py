"""check(), hint(), reveal(), show(): what a learner is told, in a notebook and in a terminal."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import minipeft.methods.lora as lora
from minipeft.course import CourseError, blame, checker, display, exercise, expect, verdict
from minipeft.course.checker import check, hint, reveal


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPEFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(exercise, "_added", {})
    monkeypatch.setattr(checker, "_given", {})


def ask(test, **fields):
    """An exercise without target, made for one test."""
    parts = {"starter": "answer = None", "solution": "answer = 1", "answer": "answer"}
    hints = ("What is one?", "1 = 1", "answer = 1")
    e = exercise.Exercise("t.one", "99_test", "One", "Say one.", hints, test, **parts | fields)
    return exercise.add(e)


# --- the verdict ---------------------------------------------------------------------------------


def test_prints_and_returns_one_verdict(capsys):
    ask(lambda a: "all of it")
    got = check("t.one", 1)
    assert (got.status, got.message) == ("right", "tested: all of it")
    assert capsys.readouterr().out == "right: t.one\ntested: all of it\n"
    assert "<code>B</code> &lt;b&gt;" in verdict.to_html("`B` <b>")


def test_an_unknown_id_names_the_near_ones():
    with pytest.raises(CourseError, match=r"did you mean 'lora.forward'"):
        check("lora.foward", None)
    with pytest.raises(CourseError, match="no exercise has the id 3"):
        check(3, None)


def test_a_check_changes_nothing_outside():
    ask(lambda a: str(torch.randn(1)))
    before = sys.getprofile()
    torch.manual_seed(5)
    want = torch.randn(3)
    torch.manual_seed(5)
    with torch.no_grad():
        check("t.one", 1)
        assert not torch.is_grad_enabled()
        check("lora.count", lambda *given: 0)
    assert torch.equal(torch.randn(3), want)
    assert sys.getprofile() is before


@pytest.mark.slow
def test_importing_the_course_is_light():
    heavy = {"IPython", "jupytext", "nbformat", "nbclient", "typer", "rich", "yaml", "transformers"}
    code = f"import sys, minipeft.course; print(sorted(sys.modules.keys() & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout == "[]\n", run.stderr


def test_the_learners_own_not_implemented_error_is_wrong():
    def later(a):
        raise NotImplementedError("later")

    ask(later)
    assert check("t.one", 1).status == "wrong"


# --- exceptions in the learner's code ------------------------------------------------------------


def learner(code, tmp_path):
    """Code as a learner's cell: a file outside the package, with its lines to be found."""
    file = tmp_path / "cell.py"
    file.write_text(textwrap.dedent(code))
    space: dict = {}
    exec(compile(file.read_text(), str(file), "exec", dont_inherit=True), space)
    return space["answer"]


def test_an_exception_names_line_and_shapes(tmp_path):
    answer = learner(
        """\
        def answer(x, w):
            y = x + 1
            return y @ w
        """,
        tmp_path,
    )
    ask(lambda a: a(torch.zeros(2, 3), torch.zeros(2, 3)))
    got = check("t.one", answer)
    assert got.status == "wrong"
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in got.message
    assert "in line 3 of your cell, `return y @ w`" in got.message
    want = "in answer(x: a tensor of shape (2, 3), float32, w: a tensor of shape (2, 3), float32)"
    assert want in got.message


def test_wrong_arguments_show_the_signature():
    got = check("lora.count", lambda r: r)
    assert "TypeError" in got.message
    assert "asked for is `lora_parameters(in_features, out_features, r)`" in got.message


@pytest.mark.parametrize("code", ["exit()", "raise KeyError", "assert False", "answer(x)"])
def test_whatever_is_raised_becomes_a_message(tmp_path, code):
    answer = learner(f"def answer(x):\n    {code}\n", tmp_path)
    ask(lambda a: a(1))
    got = check("t.one", answer)
    assert got.status == "wrong"
    assert "line 2 of your cell" in got.message


def test_an_exception_whose_text_fails():
    class Bad(Exception):
        def __str__(self):
            raise ValueError

    def bad(a):
        raise Bad

    ask(bad)
    assert check("t.one", 1).status == "wrong"


def test_torch_code_is_not_the_learners():
    assert not blame._theirs(nn.Linear.forward.__code__)
    assert not blame._theirs(lora.LoRALayer.forward.__code__)
    assert blame._theirs(learner.__code__)


# --- the package's own handed back ---------------------------------------------------------------


def test_disguises_of_the_packages_own_are_refused():
    class Delegate(nn.Module):
        def __init__(self, *given, **named):
            super().__init__()
            self.inner = lora.LoRALayer(*given, **named)
            self.lora_A, self.lora_B = self.inner.lora_A, self.inner.lora_B

        def forward(self, x, base_output):
            return self.inner(x, base_output)

    class Borrow(lora.LoRALayer):
        forward = lora.LoRALayer.forward

    for answer in (Delegate, Borrow, lora.LoRALayer):
        assert "the package's own" in check("lora.forward", answer).message


def test_an_instance_or_a_call_instead_of_the_class():
    assert "the class itself" in check("lora.forward", lora.LoRALayer(2, 2)).message
    assert "the function itself" in check("lora.count", 24_576).message


# --- expect --------------------------------------------------------------------------------------

W = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
WIDE = torch.arange(20.0).reshape(4, 5)


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (None, W, "is None: is there a `return`?"),
        ("a", W, "should be a tensor of shape (2, 2), float32, but it is str 'a'"),
        (W.T, W, "T is transposed"),
        (WIDE.T, WIDE, "T is transposed: (5, 4) instead of (4, 5)"),
        (W[0], W, "T has shape (2,); asked for is (2, 2)"),
        (W.double(), W, "right values in another dtype: a tensor of shape (2, 2), float64"),
        (-W, W, "T has the wrong sign"),
        (8 * W, W, "T is 8.0 times too large: why"),
        (W / 4, W, "T is 4.0 times too small"),
        (-3 * W, W, "T is 3.0 times too large and has the wrong sign"),
        (0 * W, W, "T is zero everywhere"),
        (W * torch.nan, W, "T holds NaN or infinity"),
        (W + 1, W, "T is [[2, 3], [4, 5]]; it should be [[1, 2], [3, 4]]"),
        (WIDE.relu() + (WIDE == 7), WIDE, "off in 1 of 20 entries; at [1, 2] it is 8 instead of 7"),
        (W.square(), W, "the square"),
    ],
)
def test_expect_close_says_what_kind_of_wrong(got, want, message):
    with pytest.raises(expect.Wrong) as caught:
        known = [(W.square(), "the square")]
        expect.expect_close(got, want, "T", diagnose=known, factors={8.0: "why"})
    assert message in str(caught.value)


def test_expect_close_accepts_rounding():
    expect.expect_close(W * (1 + 1e-5), W, "T")
    expect.expect_number(torch.tensor(3), 3, "n")


def test_expect_number():
    with pytest.raises(expect.Wrong, match="n is 6, 2 times as much as asked"):
        expect.expect_number(6, 3, "n")
    with pytest.raises(expect.Wrong, match="n should be a number, but it is bool True"):
        expect.expect_number(True, 1, "n")


# --- hints, solutions, sources -------------------------------------------------------------------


def test_hints_come_one_by_one(capsys):
    ask(lambda a: "")
    for number in (1, 2, 3, 3):
        hint("t.one")
        assert f"hint {number} of 3: t.one" in capsys.readouterr().out
    hint("t.one", 2)
    assert "1 = 1" in capsys.readouterr().out
    for level in (0, 4, "2"):
        with pytest.raises(CourseError, match="numbered 1 to 3"):
            hint("t.one", level)


def test_reveal_shows_the_live_source(capsys):
    reveal("lora.count")
    assert display.source_of(lora.lora_parameters) in capsys.readouterr().out


def test_show(capsys):
    display.show(lora.LoRALayer.delta_weight, doc=False)
    out = capsys.readouterr().out
    assert "# minipeft.methods.lora.LoRALayer.delta_weight" in out
    assert '"""' not in out
    assert "def delta_weight(self) -> Tensor:\n    return self.scaling" in out
    html = display.source_bundle("x = 1", "c")["text/html"]
    assert "<span" in html
    with pytest.raises(CourseError, match="no Python source"):
        display.show(len)


def test_without_docstrings_is_still_code():
    code = display.source_of(lora.LoRALayer, doc=False)
    assert "Args:" not in code
    compile(code, "cell", "exec")
