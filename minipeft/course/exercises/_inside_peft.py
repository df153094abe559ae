"""What the exercises of lesson 15 test: calls counted by hand, places in a model, counts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn

from ..expect import Wrong, describe, expect, expect_number

# A library of three functions in /house/, and one function elsewhere.
LIBRARY = """
def outer(times):
    for _ in range(times):
        inner(2)
    outside()

def inner(n):
    return len(str(n)) if n == 0 else inner(n - 1)

def never(): ...

def fails():
    raise KeyError("asked for")
"""
# outer 1; inner(2), inner(1), inner(0), twice; outside stands elsewhere; never is never called
COUNTS = {"outer": 1, "inner": 6}


def _library() -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(compile("def outside(): return 1", "/elsewhere/house/b.py", "exec"), space)
    exec(compile(LIBRARY, "/house/a.py", "exec"), space)
    return space


def follow(answer: Any) -> str:
    """Counts by hand, and what was set before is set after."""
    if not callable(answer):
        raise Wrong(f"hand over the function itself; this is {describe(answer)}")
    library, before = _library(), sys.getprofile()

    def mine(frame: FrameType, event: str, argument: Any) -> None:
        """Set before, to be found again."""

    try:
        sys.setprofile(mine)
        got = answer("/house/", lambda: library["outer"](2))
        now = sys.getprofile()
        sys.setprofile(before)
        _counts(got)
        expect(now is mine, _left(now))
        _when_it_fails(answer, library["fails"], mine)
    finally:
        sys.setprofile(before)
        sys.settrace(None) if sys.gettrace() is not None and _is_of(sys.gettrace(), answer) else 0
    return "counts by hand, recursion, another folder; the old profile function, also on an error"


def _is_of(function: Any, answer: Any) -> bool:
    """Whether a trace function was defined where the answer was, and so was left behind by it."""
    code, own = getattr(function, "__code__", None), getattr(answer, "__code__", None)
    return code is not None and own is not None and code.co_filename == own.co_filename


def _left(now: Any) -> str:
    """What to say of the profile function that is set afterwards."""
    if now is None:
        return "a profile function was set before `follow`; put that one back, not None"
    return "your profile function is still set after `follow`: sys.setprofile(the one before)"


def _counts(got: Any) -> None:
    expect(got is not None, "the result is None: is there a `return`?")
    expect(isinstance(got, Mapping), f"return a dict {{name: calls}}; this is {describe(got)}")
    expect("outside" not in got, "functions of other files are counted; look at co_filename")
    others = sorted(map(str, set(got) - {*COUNTS, "never", "fails"}))
    expect(not others, f"{', '.join(others)}: no function of the folder was called so")
    expect("never" not in got, "`never` is not called")
    expect(got, "nothing is counted: is the event 'call', and the file's name in co_filename?")
    expect(
        got != {name: 2 * n for name, n in COUNTS.items()},
        "each call counts twice: the event 'return' is another one",
    )
    expect(
        got != {"outer": 1, "inner": 1}, "each function counts once; asked for is how often it runs"
    )
    expect(got != {"outer": 1, "inner": 2}, "calls from within the folder are left out")
    expect(dict(got) == COUNTS, f"the counts are {dict(got)}; by hand they are {COUNTS}")


def _when_it_fails(answer: Any, fails: Callable[[], Any], mine: Any) -> None:
    sys.setprofile(mine)
    try:
        answer("/house/", fails)
    except KeyError:
        raised = True
    else:
        raised = False
    now = sys.getprofile()
    sys.setprofile(None)
    expect(raised, "when run() raises, the error must come out of `follow`; it is swallowed")
    expect(now is mine, "when run() raises, your profile function stays set: try ... finally")


class _Holds(nn.Module):
    """A wrapper: all it does is hold a layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.inner = layer


class _Twice(nn.Module):
    """One layer in three places, another in one, and an empty place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(2, 2), nn.Linear(2, 2)
        self.again = self.first
        self.register_module("empty", None)
        self.deep = nn.Sequential(nn.Sequential(self.first, nn.ReLU()))


def replace(answer: Any) -> str:
    """Three places, there and back."""
    net = _Twice()
    layer, other = net.first, net.other
    wrapper = _Holds(layer)
    made = answer(net)
    made._replace({layer: wrapper})
    _places(net, wrapper, "the wrapper")
    expect(
        wrapper.inner is layer,
        "the wrapper's own layer was replaced too: now the wrapper holds itself",
    )
    expect(net.other is other, "a layer that is not in `new` was changed")
    made._replace({wrapper: layer})
    _places(net, layer, "after _replace({wrapper: layer}) the layer")
    return "one layer in three places, two of them in one parent, replaced and put back"


def _places(net: _Twice, wanted: nn.Module, what: str) -> None:
    deep: Any = net.deep
    found = {"first": net.first, "again": net.again, "deep.0.0": deep[0][0]}
    right = [name for name, module in found.items() if module is wanted]
    copies = [m for m in found.values() if m is not wanted and type(m) is type(wanted)]
    expect(not copies, f"{what} stands there as a copy; put in the very object, new[layer]")
    expect(right, f"{what} stands nowhere: the model is as it was")
    expect("deep.0.0" in right, f"{what} stands in the top module only; go through all parents")
    missing = ", ".join(sorted(set(found) - set(right)))
    expect(
        not missing,
        f"{what} does not stand in {missing}: one layer has several names, and "
        "`named_children` and `named_modules` give each module once",
    )


def activate(answer: Any) -> str:
    """Three adapters, three switches."""
    slot = answer()
    for name in "abc":
        slot.adapters[name] = nn.Linear(1, 1)
    _switch(slot, ("c", "elsewhere", "a"), ("a",))
    _switch(slot, ("b",), ("b",))
    _switch(slot, ("a", "b"), ())
    return "order, a name that stands elsewhere, one trained, another, none"


def _switch(slot: Any, names: tuple[str, ...], trained: tuple[str, ...]) -> None:
    slot.activate(names, trained)
    said = f"after activate({names}, {trained})"
    active, want = tuple(slot.active), tuple(n for n in names if n in slot.adapters)
    expect("elsewhere" not in active, f"{said} a name is active that does not stand here")
    expect(set(active) >= set(want), f"{said} active is {active}; it should be {want}")
    extra = ", ".join(sorted(set(active) - set(want)))
    expect(not extra, f"{said} {extra} is active as well; the new names take the old ones' place")
    expect(active == want, f"{said} active is {active}; keep the order of `names`: {want}")
    for name, adapter in slot.adapters.items():
        is_trained = all(p.requires_grad for p in adapter.parameters())
        if is_trained and name not in trained:
            why = "active is not trained" if name in names else "those not in `trained` are frozen"
            raise Wrong(f"{said} {name!r} is trained: {why}")
        expect(is_trained or name not in trained, f"{said} {name!r} is frozen; it is in `trained`")


def predict_counts(answer: Any) -> str:
    """4 · 12 · (3072 + 1536 + 3840), and the sum of all."""
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong(f"asked for is the pair (trainable, all); this is {describe(answer)}")
    base, first, second = 124_439_808, 294_912, 405_504
    known = [
        (first + second, "both adapters are counted; set_adapter('second') trains that one alone"),
        (first, "that is 'default'; it is no longer active"),
        (12 * 4 * 4608, "['c_proj'] also means mlp.c_proj, from 3072 to 768"),
        (12 * 4 * 6912, "['c_proj'] also means attn.c_proj, from 768 to 768"),
        (12 * 4 * 3072, "the two c_proj of each block are missing"),
        (12 * 4 * 5376, "c_attn is missing"),
        (second // 12, "that is one block; there are 12"),
        (2 * second, "that is with r = 8; 'second' has r = 4"),
    ]
    expect_number(answer[0], second, "what is trained", known)
    known = [
        (base + second, "'default' is not in use, but it is still in memory"),
        (base, "those are GPT-2's own; both adapters are in memory too"),
        (base + first, "'second' is missing"),
        (first + second, "GPT-2's own 124,439,808 are missing"),
    ]
    expect_number(answer[1], base + first + second, "all", known)
    return "'second' has 4 · 12 · 8,448 = 405,504; with 'default' and GPT-2 it is 125,140,224"


def frozen(module: nn.Module) -> bool:
    """Whether no parameter is trained."""
    return not any(p.requires_grad for p in module.parameters())


def tied() -> tuple[nn.Embedding, nn.Linear]:
    """An embedding (3, 2), and an output layer with the same weight."""
    words, head = nn.Embedding(3, 2), nn.Linear(2, 3)
    head.weight = words.weight
    with torch.no_grad():
        words.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        head.bias.copy_(torch.tensor([100.0, 200.0, 300.0]))
    return words, head
