"""What a library makes of a mistake, told by machine: the same cases for minipeft and for peft.

A case makes one mistake. Its verdict is one of

ok         the library did what was meant all the same
clear      an error of the library's kind that names what is at fault; nothing was changed
warned     it went on, and a warning names what is at fault
unclear    an error that does not name it, or that left the model changed
silent     it went on, and the result is not what was meant, without a word
data loss  something good that was there before is gone

The first three are good. What is at fault is written down in the case, as fragments of which a
message must hold one, and so is what would have been meant: both are the same for both libraries.
"""

from __future__ import annotations

import contextlib
import io
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import CONFIG, WEIGHTS, output, shake, state_of, tiny
from torch import Tensor, nn

import minipeft

GOOD = ("ok", "clear", "warned")
VERDICTS = (*GOOD, "unclear", "silent", "data loss")
# What a program that uses Hugging Face peft can be expected to catch.
USUAL = (ValueError, TypeError, KeyError, RuntimeError, OSError, NotImplementedError)


class Lab:
    """A library, a place on the disk, and small models; it notices what is changed."""

    def __init__(self, lib: Any, place: Path):
        self.lib, self.place = lib, place
        self.ours = lib is minipeft
        self._watched: tuple[nn.Module, Any] | None = None

    # --- models ---

    def watch(self, model: Any) -> Any:
        """From here on the model must stay as it is if there is an error."""
        self._watched = (model, state_of(model))
        return model

    def changed(self) -> bool:
        """Whether the watched model is another than it was."""
        return self._watched is not None and state_of(self._watched[0]) != self._watched[1]

    def base(self, name: str = "gpt2") -> Any:
        """A tiny model, watched."""
        return self.watch(tiny(name))

    def lora(self, **options: Any) -> Any:
        """A usual LoRA for GPT-2."""
        return self.lib.LoraConfig(**{"r": 4, "target_modules": ["c_attn"], **options})

    def adapted(self, name: str = "gpt2", config: Any = None, **options: Any) -> Any:
        """A model in eval mode whose adapter changes its answer; watched."""
        model = self.lib.get_peft_model(tiny(name), config or self.lora(**options))
        shake(model)
        return self.watch(model.eval())

    def two(self) -> Any:
        """A model with the adapters "default" and "other"."""
        model = self.adapted()
        model.add_adapter("other", self.lora(r=2))
        shake(model, seed=5)
        return self.watch(model.eval())

    # --- files ---

    def saved(self, name: str = "good", seed: int = 2, **options: Any) -> Path:
        """A good adapter's folder, with its answer kept for `right`."""
        model = self.lib.get_peft_model(tiny("gpt2"), self.lora(**options))
        shake(model, seed)
        model.eval().save_pretrained(self.place / name)
        self.expected = output(model, "gpt2")
        return self.place / name

    def load(self, folder: Any, base: Any = None, **more: Any) -> Any:
        """Load it onto a fresh base."""
        return self.lib.PeftModel.from_pretrained(base or self.base(), folder, **more)

    def right(self, model: Any) -> bool:
        """Whether the model answers as the saved adapter did."""
        return torch.allclose(output(model.eval(), "gpt2"), self.expected, atol=1e-5)

    def loads(self, folder: Path) -> bool:
        """Whether the folder still gives that answer."""
        try:
            return self.right(self.lib.PeftModel.from_pretrained(tiny("gpt2"), folder))
        except Exception:
            return False


Run = Callable[[Lab], Any]
# Before what was said, where it names what is at fault and the model was changed all the same.
CHANGED = "(changed the model) "


def never(_: Any) -> bool:
    """Nothing that comes of it can be what was meant."""
    return False


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        name: what it is; area: its part of the library.
        run: makes it; what it returns is judged by `right`.
        names: fragments, of which a message must hold one (lower or upper case).
        right: whether what came is what was meant.
        theirs: False where peft has no such call.
        lost: whether something good is gone afterwards.
        base: whether the base model itself may refuse it, in its own words.
    """

    name: str
    area: str
    run: Run
    names: tuple[str, ...]
    right: Callable[[Any], bool] = never
    theirs: bool = True
    lost: Callable[[Lab], bool] = field(default=never)
    base: bool = False


def named(case: Case, text: str) -> bool:
    """Whether a message names what is at fault."""
    return any(fragment.lower() in text.lower() for fragment in case.names)


def judge(case: Case, lib: Any) -> tuple[str, str]:
    """The verdict, and what was said, with FOLDER for the case's own place on the disk."""
    verdict, said = told(case, lib)
    return verdict, re.sub(rf"{re.escape(tempfile.gettempdir())}/tmp\w+", "FOLDER", said)


def told(case: Case, lib: Any) -> tuple[str, str]:
    """As `judge`, word for word."""
    with tempfile.TemporaryDirectory() as place, in_time(30), quiet():
        lab = Lab(lib, Path(place))
        torch.manual_seed(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                came = case.run(lab)
                went = True
            except Exception as error:
                went, said = False, f"{type(error).__name__}: {error}"
                kinds: Any = USUAL
                if lab.ours and not case.base:
                    kinds = (minipeft.MinipeftError, TypeError)
                clear = isinstance(error, kinds) and named(case, said) and not lab.changed()
            if case.lost(lab):
                return "data loss", ""
            if not went:
                if lab.changed() and named(case, said):
                    said = CHANGED + said
                return "clear" if clear else "unclear", said
            right = case.right(came)
        if right:
            return "ok", ""
        said = [str(w.message) for w in caught if named(case, str(w.message))]
        return ("warned", said[0]) if said else ("silent", "")


@contextlib.contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """TimeoutError for what hangs."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a library prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def answer(model: Any, name: str = "gpt2") -> Tensor:
    """What a model answers to the usual batch."""
    return output(model, name)


__all__ = ["CONFIG", "GOOD", "VERDICTS", "WEIGHTS", "Case", "Lab", "answer", "judge", "never"]
