"""Training that teaches nothing: what is wrong must be said before the night is over."""

from __future__ import annotations

from typing import Any

import torch
from conftest import inputs, tiny
from machine import Case, Lab


def step(model: Any) -> bool:
    """A training step; whether an adapter's parameter moved."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.5) if parameters else None
    loss = model(**inputs("gpt2")).loss
    if loss.requires_grad and optimizer is not None:
        loss.backward()
        optimizer.step()
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    return any(".lora_" in n or "adapters." in n or "lora_" in n or "prompt" in n for n in moved)


def fresh(lab: Lab, **options: Any) -> Any:
    """A model to be trained."""
    model = lab.lib.get_peft_model(tiny("gpt2"), lab.lora(**options)).train()
    return lab.watch(model)


def merged(lab: Lab) -> bool:
    model = fresh(lab)
    model.merge_adapter()
    return step(lab.watch(model))


def merged_with_head(lab: Lab) -> bool:
    model = fresh(lab, modules_to_save=["ln_f"])
    model.merge_adapter()
    before = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
    model(**inputs("gpt2")).loss.backward()
    return any(p.grad is not None and n in before for n, p in model.named_parameters())


def disabled(lab: Lab) -> bool:
    model = fresh(lab)
    with model.disable_adapter():
        return step(model)


def loaded(**more: Any) -> Any:
    def run(lab: Lab) -> bool:
        folder = lab.saved()
        return step(lab.load(folder, **more).train())

    return run


def loaded_second(lab: Lab) -> bool:
    folder = lab.saved()
    model = fresh(lab)
    model.load_adapter(folder, "second")
    model.set_adapter("second")
    return step(model.train())


def inference_config(lab: Lab) -> bool:
    return step(fresh(lab, inference_mode=True))


def frozen_by_hand(lab: Lab) -> bool:
    model = fresh(lab)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return step(model)


def nothing_active(lab: Lab) -> bool:
    model = fresh(lab)
    model.add_adapter("other", lab.lora(r=2))
    model.delete_adapter("default")
    return step(model)


def frozen_base_call(lab: Lab) -> bool:
    """model.eval() is no mistake: a step in eval mode teaches."""
    return step(fresh(lab).eval())


def unloaded(lab: Lab) -> bool:
    model = fresh(lab)
    model.unload()
    return step(lab.watch(model))


def merged_away(lab: Lab) -> bool:
    model = fresh(lab)
    model.merge_and_unload()
    return step(lab.watch(model))


def no_grad_prompt(lab: Lab) -> bool:
    config = lab.lib.PromptTuningConfig(
        num_virtual_tokens=2, task_type="CAUSAL_LM", inference_mode=True
    )
    return step(lab.lib.get_peft_model(lab.base(), config).train())


def kbit_of_nothing(lab: Lab) -> Any:
    """Preparing what is no model."""
    return lab.lib.prepare_model_for_kbit_training("gpt2")


CASES = [
    Case("training while merged", "learn", merged, ("merged",), bool),
    Case("training while merged, beside a head", "learn", merged_with_head, ("merged",), bool),
    Case("training while disabled", "learn", disabled, ("disable",), bool),
    Case("training what was loaded without is_trainable", "learn", loaded(), ("is_trainable", "inference"), bool),
    Case("training what was loaded with it", "learn", loaded(is_trainable=True), ("is_trainable",), bool),
    Case("training a second adapter loaded without is_trainable", "learn", loaded_second, ("is_trainable", "inference"), bool),
    Case("training with inference_mode=True", "learn", inference_config, ("inference",), bool),
    Case("training with everything frozen by hand", "learn", frozen_by_hand, ("frozen",), bool),
    Case("training with no adapter active", "learn", nothing_active, ("active", "in use"), bool),
    Case("training in eval mode", "learn", frozen_base_call, ("eval",), bool),
    Case("training an unloaded handle", "learn", unloaded, ("unload",), bool),
    Case("training after merge_and_unload", "learn", merged_away, ("unload",), bool),
    Case("training a prompt with inference_mode=True", "learn", no_grad_prompt, ("inference",), bool),
    Case("preparing a name for k-bit training", "learn", kbit_of_nothing, ("model", "str")),
]  # fmt: skip
