"""Training that cannot learn is said, once, with the fix; so is a call on a model given back."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import adapted, inputs, tiny
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import minipeft
from minipeft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from minipeft.checks.errors import (
    AdapterNameError,
    CannotLearnWarning,
    MinipeftWarning,
    RankWarning,
    StateError,
)

HOUSE = Path(minipeft.__file__).parent


def trained(**options: Any) -> Any:
    """A tiny GPT-2 with a LoRA, to be trained."""
    return get_peft_model(tiny("gpt2"), LoraConfig(r=4, **options)).train()


def said_by(model: Any, **more: Any) -> list[str]:
    """What two training steps' forwards warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            model(**inputs("gpt2"), **more)
    assert all(issubclass(w.category, CannotLearnWarning) for w in caught)
    assert all(w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def merged(model: Any) -> None:
    model.merge_adapter()


def frozen(model: Any) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def deleted(model: Any) -> None:
    model.add_adapter("other", LoraConfig())
    with pytest.warns(MinipeftWarning, match="'default' was the adapter in use; none is now"):
        model.delete_adapter("default")


REASONS: list[tuple[Callable[[Any], Any], str]] = [
    (merged, r"'default' is merged into the weights, which are frozen: call unmerge_adapter\(\)"),
    (frozen, r"all parameters are frozen, those of 'default' too: call set_adapter\('default'\)"),
    (deleted, r"no adapter is active: call set_adapter\(name\); the adapters are 'other'"),
    (
        lambda m: m.set_adapter("default", inference_mode=True),
        r"all parameters are frozen, those of 'default' too: call set_adapter\('default'\)",
    ),
]


@pytest.mark.parametrize(("how", "why"), REASONS)
def test_a_forward_that_teaches_nothing_says_why_once(how: Callable[[Any], Any], why: str):
    model = trained()
    assert said_by(model) == []
    how(model)
    (said,) = said_by(model)
    assert "this training forward teaches the adapters nothing: " in said
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(said)
    with torch.no_grad():
        assert said_by(model) == []
    assert said_by(model.eval()) == []


def test_the_reason_is_said_again_when_it_is_another():
    model = trained()
    model.merge_adapter()
    assert len(said_by(model)) == 1
    model.unmerge_adapter()
    assert said_by(model) == []
    frozen(model)
    assert len(said_by(model)) == 1
    model.set_adapter("default")  # trains it again
    assert said_by(model) == []


def test_an_adapter_for_inference_names_is_trainable(tmp_path: Path):
    trained().save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(tiny("gpt2"), tmp_path)
    assert said_by(model) == []  # it is in eval mode
    (said,) = said_by(model.train())
    assert "'default' was loaded or made for inference: load it with is_trainable=True" in said
    model.set_adapter("default", inference_mode=False)
    assert said_by(model) == []
    made = get_peft_model(tiny("gpt2"), LoraConfig(inference_mode=True)).train()
    assert "made for inference" in said_by(made)[0]


def test_switched_off_adapters_learn_nothing():
    model = trained()
    with model.disable_adapter():
        (said,) = said_by(model)
    assert "switched off by disable_adapter(): train outside of it" in said
    with model.disable_adapter(), torch.no_grad():
        assert said_by(model) == []


def test_a_merged_adapter_beside_a_head_that_learns():
    """A gradient flows, to the head's copy, and the LoRA in the weights gets none."""
    model = trained(target_modules=["c_attn"], modules_to_save=["ln_f"])
    model.merge_adapter()
    assert "is merged into the weights" in said_by(model)[0]


class Checkpointed(nn.Module):
    """Two layers that are run again in the backward pass, the old way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Any:
        """What Hugging Face models did by default for years."""
        return checkpoint(self.layers, x, use_reentrant=True)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
def test_checkpointing_without_a_gradient_at_the_input():
    model = get_peft_model(Checkpointed(), LoraConfig(r=2, target_modules="all-linear"))
    with pytest.warns(CannotLearnWarning, match=r"use_reentrant=True stops it.*reentrant=False"):
        model(torch.ones(2, 4))
    assert model(torch.ones(2, 4).requires_grad_()).requires_grad  # and says nothing


def test_transformers_models_learn_when_checkpointed():
    model = trained()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model(**inputs("gpt2")).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "config", [LoraConfig(r=2), IA3Config(), PromptTuningConfig(num_virtual_tokens=2)]
)
def test_a_forward_that_learns_says_nothing(config: Any):
    assert said_by(get_peft_model(tiny("gpt2"), config).train()) == []
    net = nn.Sequential(nn.Linear(4, 3))
    plain = get_peft_model(net, LoraConfig(r=2, target_modules=["0"]))
    assert plain(torch.ones(2, 4)).requires_grad


def test_a_switch_that_is_not_entered_says_so():
    model = adapted("gpt2")
    with pytest.warns(MinipeftWarning, match="called and not entered, so it did nothing") as said:
        model.disable_adapter()
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with model.disable_adapter():
            pass


# --- ranks ---------------------------------------------------------------------------------------


def test_ranks_above_the_layers_own():
    config = LoraConfig(r=4, target_modules=["first", "second"], rank_pattern={"second": 5})
    with pytest.warns(
        RankWarning, match=r"r is above what 1 of the 2 layers .*'second' takes rank"
    ):
        get_peft_model(tiny("mlp"), config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_peft_model(tiny("mlp"), LoraConfig(r=3, target_modules=["first", "second"]))


# --- a handle whose model was given back ---------------------------------------------------------

CALLS: dict[str, Callable[[Any], Any]] = {
    "forward": lambda m: m(**inputs("gpt2")),
    "generate": lambda m: m.generate(inputs("gpt2")["input_ids"]),
    "save_pretrained": lambda m: m.save_pretrained("never"),
    "merge_adapter": lambda m: m.merge_adapter(),
    "unmerge_adapter": lambda m: m.unmerge_adapter(),
    "merge_and_unload": lambda m: m.merge_and_unload(),
    "unload": lambda m: m.unload(),
    "add_adapter": lambda m: m.add_adapter("new", LoraConfig()),
    "load_adapter": lambda m: m.load_adapter(".", "new"),
    "disable_adapter": lambda m: m.disable_adapter().__enter__(),
    "get_base_model": lambda m: m.get_base_model(),
    "print_trainable_parameters": lambda m: m.print_trainable_parameters(),
    "config": lambda m: m.config,
    "push_to_hub": lambda m: m.push_to_hub("me/it"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("verb", ["unload", "merge_and_unload"])
def test_an_unloaded_handle_says_so(call: str, verb: str, monkeypatch: Any, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    model = adapted("gpt2")
    plain = getattr(model, verb)()
    with pytest.raises(StateError, match=r"this PeftModel was unloaded.*get_peft_model"):
        CALLS[call](model)
    assert list(tmp_path.iterdir()) == []
    again = get_peft_model(plain, LoraConfig(r=2))  # the model itself goes on
    again(**inputs("gpt2"))


def test_an_unloaded_handle_has_no_names():
    model = adapted("gpt2")
    model.unload()
    for verb in ("set_adapter", "delete_adapter"):
        with pytest.raises(AdapterNameError, match="no adapter 'default'; all were del"):
            getattr(model, verb)("default")
    assert repr(model)
    assert not hasattr(model, "__deepcopy__")


# --- the family ----------------------------------------------------------------------------------


def calls_of(name: str) -> list[tuple[str, ast.Call]]:
    """All calls of a function in the package."""
    found = []
    for file in sorted(HOUSE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                found.append((f"{file.relative_to(HOUSE)}:{node.lineno}", node))
    return found


def test_all_warnings_are_of_the_family():
    family = {k.__name__ for k in [MinipeftWarning, *MinipeftWarning.__subclasses__()]}
    (only,) = calls_of("warnings.warn")  # all warnings pass one door, which finds the caller's line
    assert only[0].startswith("checks/doubts.py")
    calls = calls_of("warn")
    assert len(calls) > 10
    for place, call in calls:
        assert len(call.args) < 2 or ast.unparse(call.args[1]) in family, place


# What may be raised beside our own family, and why.
ALLOWED = {
    "NotImplementedError": "a subclass must say it",
    "AttributeError": "Python's own protocol of attributes",
    "AssertionError": "a check of the course's, not of the package's",
    "SystemExit": "the end of a command",
    "KeyboardInterrupt": "a signal, passed on",
    "typer.Exit": "the end of a command",
    "_explain": "makes one of the family, for a model that cannot be loaded",
}


def makers_of_errors(errors: set[str]) -> set[str]:
    """Functions that return an error for another room to raise, as these call them."""
    found = set()
    for file in [*(HOUSE / "checks").glob("*.py"), HOUSE / "tuner" / "demands.py"]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            told = (
                ast.unparse(node.returns)
                if isinstance(node, ast.FunctionDef) and node.returns
                else ""
            )
            if told.removesuffix(" | None") in errors | {"Exception"}:
                found.add(f"{file.stem}.{node.name}")
    return found


def test_all_errors_are_of_the_family():
    errors = {name for name in vars(minipeft.checks.errors) if name.endswith("Error")}
    family = errors | makers_of_errors(errors)
    course, strange = ("course", "assets"), []
    for file in sorted(HOUSE.rglob("*.py")):
        if file.relative_to(HOUSE).parts[0] in course:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name not in family and name not in ALLOWED:
                    strange.append(f"{file.relative_to(HOUSE)}:{node.lineno} raises {name}")
    assert strange == []
