"""The proofs of lesson 15 on what holds what, the layers' classes, and the image classifier."""

from __future__ import annotations

import builtins
import importlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ... import LoraConfig, LoraModel, PeftModel, get_peft_model
from ...checks.errors import CheckpointNotFoundError, TargetError
from ..claims import hold, proves
from ..oracle import import_peft
from .inside_peft import bases, of_peft
from .merge import small

QUIET: dict[str, Any] = {"fan_in_fan_out": True}  # or peft warns that it sets this on GPT-2


@proves("tree-parts")
@of_peft
def parts(peft: Any) -> str:
    """What a PeftModel of a LoRA and of a prefix holds."""
    lora = peft.get_peft_model(small(), peft.LoraConfig(**QUIET))
    config = peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    prefix = peft.get_peft_model(small(), config)
    held = [type(lora.base_model).__name__, type(prefix.prompt_encoder["default"]).__name__]
    hold(held == ["LoraModel", "PrefixEncoder"], f"{held}")
    return " and ".join(held)


@proves("tree-tasks")
@of_peft
def tasks(peft: Any) -> str:
    """What get_peft_model makes for a task."""
    kind = peft.PeftModelForSequenceClassification
    hold(issubclass(kind, peft.PeftModel), "no subclass")
    made = peft.get_peft_model(small(), peft.LoraConfig(task_type="CAUSAL_LM", **QUIET))
    ours = get_peft_model(small(), LoraConfig(task_type="CAUSAL_LM"))
    hold(type(ours) is PeftModel, f"{type(ours)}")
    return f"{bases(kind)}; for CAUSAL_LM peft makes {type(made).__name__}, minipeft PeftModel"


@proves("tree-active")
def active() -> str:
    """Asked in both libraries, before and after a switch."""
    import minipeft

    libraries: list[Any] = [library for library in (minipeft, import_peft()) if library]
    for library in libraries:
        model = library.get_peft_model(small(), library.LoraConfig(**_quiet(library)))
        hold(model.active_adapter == "default", f"{model.active_adapter}")
        model.add_adapter("second", library.LoraConfig(r=2, **_quiet(library)))
        model.set_adapter("second")
        hold(list(model.peft_config) == ["default", "second"], f"{list(model.peft_config)}")
        same = model.active_peft_config is model.peft_config["second"]
        hold(same and model.active_adapter == "second", f"{model.active_adapter}")
    return f"all three hold in {' and '.join(library.__name__ for library in libraries)}"


def _quiet(library: Any) -> dict[str, Any]:
    return QUIET if library.__name__ == "peft" else {}


@proves("tree-base-model")
def base_model() -> str:
    """The class of base_model, for a LoRA and for a prefix."""
    import minipeft

    options = {"num_virtual_tokens": 2, "task_type": "CAUSAL_LM"}
    found = []
    for library in (import_peft(), minipeft):
        if library is None:
            continue
        kinds: Any = library
        configs = kinds.LoraConfig(**_quiet(library)), kinds.PrefixTuningConfig(**options)
        made = [type(kinds.get_peft_model(small(), c).base_model).__name__ for c in configs]
        want = ["LoraModel", "GPT2LMHeadModel"] if library is not minipeft else ["LayerModel"] * 2
        hold(made == want, f"{made}")
        found.append(f"{library.__name__}: {', '.join(made)}")
    return "; ".join(found)


def vit(labels: int = 101) -> Any:
    """ViT-base without its weights."""
    from transformers import ViTConfig, ViTForImageClassification

    options: Any = {"num_labels": labels}
    with torch.device("meta"):
        model: Any = ViTForImageClassification(ViTConfig(**options))
        return model


@proves("tree-vit-targets")
def vit_targets() -> str:
    """Refused as written; the count with the names of today."""
    model = vit()
    try:
        get_peft_model(model, LoraConfig(target_modules=["query", "value"]))
    except TargetError:
        refused = True
    else:
        refused = False
    hold(refused, "query and value match")
    options: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"], "r": 16}
    made = get_peft_model(model, LoraConfig(modules_to_save=["classifier"], **options))
    counts = made.get_nb_trainable_parameters()
    hold(counts == (12 * 2 * 16 * 2 * 768 + 769 * 101, 86_543_818), f"{counts}")
    return f"refused; with q_proj, v_proj {counts[0]:,} of {counts[1]:,}"


@proves("tree-vit-print")
def vit_print() -> str:
    """No function of this name; a method of the adapted model alone."""
    name = "print_trainable_parameters"
    hold(not hasattr(builtins, name) and not hasattr(vit(), name), "it is there")
    hold(hasattr(PeftModel, name), "our models lack it")
    peft = import_peft()
    if peft is not None:
        hold(not hasattr(peft, name) and hasattr(peft.PeftModel, name), "peft has the function")
    return "no function, and no method of the plain model; model.print_trainable_parameters() after"


@proves("tree-same-class")
def same_class() -> str:
    """The type, in both."""
    hold(type(get_peft_model(small(), LoraConfig())) is PeftModel, "ours")
    peft = import_peft()
    if peft is None:
        return "PeftModel"
    made = type(peft.get_peft_model(small(), peft.LoraConfig(**QUIET)))
    hold(made is peft.PeftModel, f"{made}")
    return "PeftModel in both; with a task_type peft makes a subclass"


@proves("tree-defalut")
def defalut() -> str:
    """Where the file goes."""
    found = []
    for name in ("default", "defalut"):
        with tempfile.TemporaryDirectory() as folder:
            PeftModel(small(), LoraConfig(), adapter_name=name).save_pretrained(folder)
            (file,) = Path(folder).rglob("*.safetensors")
            found.append(file.relative_to(folder).as_posix())
            try:
                PeftModel.from_pretrained(small(), folder)
            except CheckpointNotFoundError:
                hold(name == "defalut", "the default adapter is not found")
            else:
                hold(name == "default", "it is found all the same")
    last = "adapter_model.safetensors"
    hold(found == [last, f"defalut/{last}"], f"{found}")
    return f"saved in {found[1]}, where from_pretrained(folder) finds no adapter"


@proves("tree-lora-model")
def lora_model() -> str:
    """The signature, and the call."""
    config = LoraConfig()
    hold(isinstance(LoraModel(small(), config), LoraModel), "ours needs it too")
    peft = import_peft()
    if peft is None:
        return "minipeft takes it as the note has it; peft is not installed"
    name = inspect.signature(peft.LoraModel.__init__).parameters["adapter_name"]
    hold(name.default is inspect.Parameter.empty, "peft has a default")
    try:
        peft.LoraModel(small(), peft.LoraConfig(**QUIET))
    except TypeError as error:
        return f"TypeError: {str(error).partition('__init__() ')[2]}; minipeft has a default"
    hold(False, "peft took the call")
    return ""


@proves("tree-wraps")
@of_peft
def wraps(peft: Any) -> str:
    """The bases, and what an adapted layer is."""
    lora = importlib.import_module("peft.tuners.lora")
    hold(not issubclass(lora.Linear, nn.Linear), "it is an nn.Linear")
    hold(not issubclass(lora.Embedding, nn.Embedding), "it is an nn.Embedding")
    layer = nn.Linear(3, 2)
    made = peft.get_peft_model(nn.Sequential(layer), peft.LoraConfig(target_modules=["0"]))
    (adapted,) = (m for m in made.modules() if isinstance(m, lora.Linear))
    hold(adapted.base_layer is layer, "another layer")
    return f"{bases(lora.Linear)}, {bases(lora.Embedding)}; base_layer is the layer itself"


@proves("tree-quant")
@of_peft
def quant(peft: Any) -> str:
    """The file gptq.py."""
    gptq = importlib.import_module("peft.tuners.lora.gptq")
    hold(not hasattr(gptq, "QuantLinear"), "QuantLinear is there")
    return f"{bases(gptq.GPTQLoraLinear)} in {gptq.__name__}"


@proves("tree-base-tuner")
@of_peft
def base_tuner(peft: Any) -> str:
    """The order of its bases."""
    text = bases(importlib.import_module("peft.tuners.tuners_utils").BaseTuner)
    hold(text == "BaseTuner(Module, ABC)", text)
    return f"{text}; {bases(peft.LoraModel)}"
