"""Merging, and several adapters in memory."""

from __future__ import annotations

from typing import Any

import torch
from conftest import inputs, shake, tiny
from machine import Case, Lab, answer


def verb(name: str, *args: Any, **more: Any) -> Any:
    """Call a verb of a model with the adapters "default" and "other"."""
    return lambda lab: getattr(lab.two(), name)(*args, **more)


def merged_twice(lab: Lab) -> bool:
    """Twice the same: the update must not count twice."""
    model = lab.adapted()
    before = answer(model)
    model.merge_adapter()
    lab.watch(model).merge_adapter()
    return torch.allclose(answer(model), before, atol=1e-4)


def merged_by_two_names(lab: Lab) -> bool:
    """A name given twice in one call."""
    model = lab.adapted()
    before = answer(model)
    model.merge_adapter(["default", "default"])
    return torch.allclose(answer(model), before, atol=1e-4)


def unmerged_unmerged(lab: Lab) -> bool:
    lab.adapted().unmerge_adapter()
    return False


def there_and_back(lab: Lab) -> bool:
    """Merge and unmerge, to the bit."""
    model = lab.adapted()
    before = answer(model)
    model.merge_adapter()
    model.unmerge_adapter()
    return torch.equal(answer(model), before)


def half(lab: Lab) -> bool:
    """The same in float16."""
    model = lab.lib.get_peft_model(tiny("gpt2", torch.float16), lab.lora())
    shake(model)
    before = answer(model.eval())
    model.merge_adapter()
    model.unmerge_adapter()
    return torch.equal(answer(model), before)


def while_merged(name: str, *args: Any) -> Any:
    """A verb while an adapter is merged; afterwards the base must still come back."""

    def run(lab: Lab) -> bool:
        base = answer(tiny("gpt2"))
        model = lab.two()
        model.merge_adapter()
        lab.watch(model)
        getattr(model, name)(*[a(lab) if callable(a) else a for a in args])
        return torch.allclose(answer(model.unload()), base, atol=1e-4)

    return run


def other_while_merged(lab: Lab) -> bool:
    """Another adapter chosen while one is merged: it must not act on top of the merged one."""
    model = lab.two()
    model.set_adapter("other")
    alone = answer(model)
    model.set_adapter("default")
    model.merge_adapter()
    lab.watch(model).set_adapter("other")
    return torch.allclose(answer(model), alone, atol=1e-4)


def forward_after_unload(lab: Lab) -> bool:
    model = lab.adapted()
    before = answer(model)
    model.unload()
    return torch.equal(answer(lab.watch(model)), before)


def set_after_unload(lab: Lab) -> Any:
    model = lab.adapted()
    model.unload()
    lab.watch(model).set_adapter("default")


def add_after_unload(lab: Lab) -> bool:
    model = lab.adapted()
    model.unload()
    lab.watch(model).add_adapter("new", lab.lora())
    model.set_adapter("new")
    return not any(p.requires_grad for n, p in model.named_parameters() if "lora" not in n)


def deleted_active(lab: Lab) -> bool:
    """The adapter in use is deleted: which one answers now?"""
    model = lab.two()
    model.delete_adapter("default")
    return False


def deleted_last(lab: Lab) -> bool:
    model = lab.adapted()
    model.delete_adapter("default")
    return torch.allclose(answer(model), answer(tiny("gpt2")), atol=1e-5)


def raised_inside(lab: Lab) -> bool:
    """An exception inside disable_adapter: afterwards the adapters are on again."""
    model = lab.adapted()
    before = answer(model)
    try:
        with model.disable_adapter():
            raise KeyError("mine")
    except KeyError:
        pass
    return torch.equal(answer(model), before)


def disabled_while_merged(lab: Lab) -> bool:
    model = lab.adapted()
    base = answer(tiny("gpt2"))
    before = answer(model)
    model.merge_adapter()
    with model.disable_adapter():
        off = answer(model)
    return torch.allclose(off, base, atol=1e-4) and torch.allclose(answer(model), before, atol=1e-4)


def nested(lab: Lab) -> bool:
    model = lab.adapted()
    base = answer(tiny("gpt2"))
    with model.disable_adapter():
        with model.disable_adapter():
            pass
        return torch.equal(answer(model), base)


def not_entered(lab: Lab) -> bool:
    """disable_adapter() as a statement: people expect the base model's answer after it."""
    model = lab.adapted()
    model.disable_adapter()
    return torch.equal(answer(model), answer(tiny("gpt2")))


def merged_nan(lab: Lab) -> bool:
    model = lab.adapted()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_" in n).view(-1)[0] = float("nan")
    lab.watch(model).merge_and_unload(**({} if lab.ours else {"safe_merge": True}))
    return False


def merged_nan_plainly(lab: Lab) -> bool:
    """As people call it."""
    model = lab.adapted()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_" in n).view(-1)[0] = float("nan")
    lab.watch(model).merge_and_unload()
    return False


def tied(lab: Lab) -> bool:
    """A tied head: merging must not change the embeddings, or it is refused."""
    model = lab.adapted(target_modules=["lm_head"])
    before = answer(model)
    plain = model.merge_and_unload()
    return torch.allclose(answer(plain), before, atol=1e-4)


def merged_prompt(lab: Lab) -> Any:
    config = lab.lib.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    model = lab.watch(lab.lib.get_peft_model(tiny("gpt2"), config))
    return model.merge_and_unload()


def weighted(*args: Any, **more: Any) -> Any:
    """add_weighted_adapter; what comes must be w1·ΔW1 + w2·ΔW2."""

    def run(lab: Lab) -> bool:
        model = lab.two()
        model.add_weighted_adapter(*args, **more)
        return False

    return run


def linear_sum(lab: Lab) -> bool:
    """0.5 and 0.5, "linear": people expect the mean of both ΔW."""
    model = lab.adapted()
    model.add_adapter("other", lab.lora())
    model.set_adapter("other")
    shake(model, seed=5)
    model.add_weighted_adapter(["default", "other"], [1.0, -1.0], "sum", combination_type="cat")
    model.set_adapter("sum")
    model.eval()
    return bool(torch.isfinite(answer(model)).all())


def rows(names: Any) -> Any:
    """Rows of one batch through different adapters."""

    def run(lab: Lab) -> Any:
        model = lab.two().eval()
        with torch.no_grad():
            return model(input_ids=inputs("gpt2")["input_ids"], adapter_names=names)

    return run


def rows_while_merged(lab: Lab) -> bool:
    model = lab.two()
    model.merge_adapter()
    with torch.no_grad():
        lab.watch(model)(input_ids=inputs("gpt2")["input_ids"], adapter_names=["other", "default"])
    return False


def state(change: Any) -> Any:
    """set_peft_model_state_dict with something wrong in it."""

    def run(lab: Lab) -> bool:
        model = lab.adapted()
        if lab.ours:
            get, put = lab.lib.get_peft_model_state_dict, lab.lib.set_peft_model_state_dict
        else:
            get, put = lab.lib.get_peft_model_state_dict, lab.lib.set_peft_model_state_dict
        given = {k: v.clone() for k, v in get(model).items()}
        change(given)
        put(model, given)
        return False

    return run


def in_use(lab: Lab) -> bool:
    """An option changed after the adapter was made: what is saved must be what answers."""
    model = lab.adapted()
    before = answer(model)
    model.peft_config["default"].lora_alpha = 64
    model.save_pretrained(lab.place / "out")
    return torch.allclose(answer(lab.load(lab.place / "out").eval()), before, atol=1e-5)


def two_active(lab: Lab) -> bool:
    """Two adapters active, one merged: the answer stays that of both."""
    model = lab.two()
    (model if lab.ours else model.base_model).set_adapter(["default", "other"])
    before = answer(model)
    model.merge_adapter(["default"])
    return torch.allclose(answer(model), before, atol=1e-4)


CASES = [
    Case("merged twice", "memory", merged_twice, ("merged",), bool),
    Case("one name twice in a merge", "memory", merged_by_two_names, ("default",), bool),
    Case("unmerged when nothing is merged", "memory", unmerged_unmerged, ("merged",)),
    Case("merged and unmerged", "memory", there_and_back, ("round", "merge"), bool),
    Case("merged and unmerged in float16", "memory", half, ("round", "merge"), bool),
    Case("merge an unknown adapter", "memory", verb("merge_adapter", ["nobody"]), ("nobody",)),
    Case("merge a misspelt adapter", "memory", verb("merge_adapter", ["othr"]), ("othr",)),
    Case("merge no adapter", "memory", verb("merge_adapter", []), ("adapter_names", "adapter")),
    Case("unload with an unknown adapter", "memory", verb("merge_and_unload", adapter_names=["nobody"]), ("nobody",)),
    Case("choose an unknown adapter", "memory", verb("set_adapter", "nobody"), ("nobody",)),
    Case("choose no adapter", "memory", verb("set_adapter", []), ("adapter_name",)),
    Case("choose None", "memory", verb("set_adapter", None), ("None",)),
    Case("choose a number", "memory", verb("set_adapter", 3), ("3",)),
    Case("choose a name in upper case", "memory", verb("set_adapter", "Default"), ("Default",)),
    Case("inference_mode as a string", "memory", verb("set_adapter", "other", inference_mode="no"), ("inference_mode",)),
    Case("delete an unknown adapter", "memory", verb("delete_adapter", "nobody"), ("nobody",)),
    Case("delete None", "memory", verb("delete_adapter", None), ("None",)),
    Case("delete the adapter in use", "memory", deleted_active, ("in use", "active")),
    Case("delete the last adapter", "memory", deleted_last, ("default",), bool),
    Case("delete what is merged", "memory", while_merged("delete_adapter", "default"), ("merged",), bool),
    Case("add while merged", "memory", while_merged("add_adapter", "new", lambda lab: lab.lora()), ("merged",), bool),
    Case("choose another while merged", "memory", other_while_merged, ("merged",), bool),
    Case("a forward after unload", "memory", forward_after_unload, ("unload",), bool),
    Case("a choice after unload", "memory", set_after_unload, ("unload", "no adapter")),
    Case("an adapter added after unload", "memory", add_after_unload, ("unload",), bool),
    Case("an exception while switched off", "memory", raised_inside, ("mine",), bool),
    Case("switched off while merged", "memory", disabled_while_merged, ("merged",), bool),
    Case("switched off without with", "memory", not_entered, ("disable_adapter",), bool),
    Case("switched off twice", "memory", nested, ("disable",), bool),
    Case("merge NaN, checked", "memory", merged_nan, ("NaN", "finite")),
    Case("merge NaN", "memory", merged_nan_plainly, ("NaN", "finite")),
    Case("merge into a tied head", "memory", tied, ("tie", "share"), bool),
    Case("merge a prompt", "memory", merged_prompt, ("virtual", "prompt", "merge")),
    Case("one of two active ones merged", "memory", two_active, ("default",), bool),
    Case("weights too few", "memory", weighted(["default", "other"], [1.0], "sum"), ("weights",)),
    Case("weights too many", "memory", weighted(["default", "other"], [1.0, 1.0, 1.0], "sum"), ("weights",)),
    Case("a weight of NaN", "memory", weighted(["default", "other"], [1.0, float("nan")], "sum", combination_type="cat"), ("weights", "nan")),
    Case("a weight as a string", "memory", weighted(["default", "other"], ["1", 1.0], "sum", combination_type="cat"), ("weights", "str")),
    Case("an unknown adapter in a sum", "memory", weighted(["default", "nobody"], [1.0, 1.0], "sum"), ("nobody",)),
    Case("different ranks, linear", "memory", weighted(["default", "other"], [1.0, 1.0], "sum", combination_type="linear"), ("rank", " r ")),
    Case("an unknown combination", "memory", weighted(["default", "other"], [1.0, 1.0], "sum", combination_type="sdv"), ("sdv", "combination_type")),
    Case("a sum under a taken name", "memory", weighted(["default", "other"], [1.0, 1.0], "other", combination_type="cat"), ("other",)),
    Case("svd_rank = 0", "memory", weighted(["default", "other"], [1.0, 1.0], "sum", combination_type="svd", svd_rank=0), ("svd_rank",)),
    Case("no adapters in a sum", "memory", weighted([], [], "sum"), ("adapters",)),
    Case("a difference by cat", "memory", linear_sum, ("weights",), bool),
    Case("rows with too few names", "memory", rows(["default"]), ("adapter_names", "length")),
    Case("rows with an unknown name", "memory", rows(["default", "nobody"]), ("nobody",)),
    Case("rows with one string", "memory", rows("default"), ("adapter_names", "list")),
    Case("rows while merged", "memory", rows_while_merged, ("merged",)),
    Case("a state dict with a tensor missing", "memory", state(lambda d: d.pop(next(iter(d)))), ("lora_",)),
    Case("a state dict with a tensor too many", "memory", state(lambda d: d.update(stray=torch.ones(2))), ("stray",)),
    Case("a state dict of another shape", "memory", state(lambda d: d.update({next(iter(d)): torch.ones(2, 2)})), ("shape", "size")),
    Case("a state dict that is None", "memory", lambda lab: lab.lib.set_peft_model_state_dict(lab.adapted(), None), ("state dict", "None")),
    Case("a state dict of NaN", "memory", state(lambda d: [t.fill_(float("nan")) for t in d.values()]), ("NaN",)),
    Case("a config changed while in use", "memory", in_use, ("lora_alpha",), bool),
    Case("name and config exchanged", "memory", lambda lab: lab.adapted().add_adapter(lab.lora(), "other"), ("name", "config")),
    Case("a list deleted", "memory", verb("delete_adapter", ["other"]), ("name", "str", "list")),
    Case("an empty state dict", "memory", state(lambda d: d.clear()), ("lora_", "lacks", "empty")),
]  # fmt: skip
