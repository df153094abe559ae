"""The proofs of lesson 15 on peft's modules and class tree; peft_models.py has the others."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from ... import LoraConfig, PrefixTuningConfig
from ...checks.errors import ConfigError
from ..claims import Proof, hold, proves
from ..oracle import import_peft

TREE = "LoraConfig(PeftConfig)\nBaseTunerLayer(ABC)\n  - LoraLayer(BaseTunerLayer)"  # 004:L96-98
CALL = 'PeftModel(model, peft_config: PeftConfig, adapter_name="default")'  # 004:L48


def of_peft(proof: Callable[[Any], str]) -> Proof:
    """A proof about peft, which says so where peft is not installed."""

    @functools.wraps(proof)
    def run() -> str:
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing, the table says
            peft = import_peft()
        return "not measured here: peft is not installed" if peft is None else proof(peft)

    return run


def bases(kind: type) -> str:
    """`Linear(Module, LoraLayer)`."""
    return f"{kind.__name__}({', '.join(base.__name__ for base in kind.__bases__)})"


def public(kind: type) -> list[str]:
    """What a class defines itself, without underscores."""
    return [name for name in vars(kind) if name[0] != "_"]


@proves("tree-folder")
@of_peft
def folder(peft: Any) -> str:
    """The five files, imported."""
    home = importlib.import_module("peft.tuners.lora")
    for name in ("config", "layer", "model", "bnb", "gptq"):
        importlib.import_module(f"{home.__name__}.{name}")
    resources = importlib.import_module("importlib.resources")
    n = sum(f.name.endswith(".py") for f in resources.files(home).iterdir())
    hold(n > 6, f"{n} files")
    return f"all five there, among {n} files"


@proves("tree-same-names")
@of_peft
def same_names(peft: Any) -> str:
    """The public name is the class in the new file."""
    for file, name in (("config", "LoraConfig"), ("model", "LoraModel")):
        inner = getattr(importlib.import_module(f"peft.tuners.lora.{file}"), name)
        hold(getattr(peft, name) is inner is getattr(peft.tuners.lora, name), name)
    return "peft.LoraConfig is peft.tuners.lora.LoraConfig is the class in lora/config.py"


@proves("tree-hub")
@of_peft
def hub(peft: Any) -> str:
    """What transformers' mixin defines."""
    kind = importlib.import_module("transformers.utils").PushToHubMixin
    hold(issubclass(peft.PeftConfig, kind), "PeftConfig does not inherit from it")
    own = [name for name in vars(kind) if not name.startswith("__")]
    hold("push_to_hub" in own and len(own) > 1, f"{own}")
    return ", ".join(own)


@proves("tree-paths")
@of_peft
def paths(peft: Any) -> str:
    """The module that the note names, and the one where they are."""
    try:
        importlib.import_module("peft.utils.config")
    except ModuleNotFoundError as error:
        said = type(error).__name__
    else:
        said = ""
    hold(said, "peft.utils.config is there")
    config = importlib.import_module("peft.config")
    kinds = (config.PeftConfigMixin, config.PeftConfig, config.PromptLearningConfig)
    hold({kind.__module__ for kind in kinds} == {"peft.config"}, "other modules")
    return f"peft.utils.config: {said}; all three are in peft.config"


@proves("tree-files")
@of_peft
def files(peft: Any) -> str:
    """Where the configs of all methods stand."""
    mapping = importlib.import_module("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
    modules = {kind.__module__ for kind in mapping.values()}
    hold(all(name.startswith("peft.tuners.") for name in modules), f"{modules}")
    return f"{len(modules)} modules, all below peft.tuners"


@proves("tree-mixin")
@of_peft
def mixin(peft: Any) -> str:
    """Its own public names."""
    kind = importlib.import_module("peft.config").PeftConfigMixin
    own = public(kind)
    hold({"save_pretrained", "from_pretrained"} < set(own), f"{own}")
    more = [n for n in own if n not in ("save_pretrained", "from_pretrained")]
    methods = [n for n in more if callable(getattr(kind, n)) or isinstance(vars(kind)[n], property)]
    hold(len(methods) > 2, f"{methods}")
    return f"also {', '.join(methods)}"


@proves("tree-fields")
@of_peft
def config_fields(peft: Any) -> str:
    """What the mixin has, and what PeftConfig adds."""
    kind = importlib.import_module("peft.config").PeftConfigMixin
    above = [f.name for f in fields(kind)]
    added = [f.name for f in fields(peft.PeftConfig) if f.name not in above]
    hold({"peft_type", "task_type"} <= set(above), f"{above}")
    hold({"base_model_name_or_path", "inference_mode"} <= set(added), f"{added}")
    return f"the mixin: {', '.join(above)}; PeftConfig: {', '.join(added)}"


@proves("tree-peft-type")
def peft_type() -> str:
    """In both libraries."""
    hold(LoraConfig().peft_type == "LORA", "ours is another")
    peft = import_peft()
    if peft is not None:
        hold(peft.LoraConfig().peft_type == peft.PeftType.LORA, "peft's is another")
        text = bases(peft.LoraConfig)
        hold(text == "LoraConfig(PeftConfig)", text)
    return "LORA" + " in both" * (peft is not None)


@proves("tree-prompt-config")
@of_peft
def prompt_config(peft: Any) -> str:
    """Its subclasses."""
    kind = importlib.import_module("peft.config").PromptLearningConfig
    three = {peft.PrefixTuningConfig, peft.PromptTuningConfig, peft.PromptEncoderConfig}
    kinds = {k for k in vars(peft).values() if isinstance(k, type) and issubclass(k, kind)}
    hold(three < kinds, f"{kinds}")
    return ", ".join(sorted(k.__name__ for k in kinds - {kind}))


@proves("tree-dictionary")
def dictionary() -> str:
    """A config refuses what a dict would keep."""
    for wrong in ({"r": 0}, {"rang": 8}):
        try:
            LoraConfig(**wrong)  # type: ignore[arg-type]
        except (ConfigError, TypeError):
            continue
        hold(False, f"{wrong} was taken")
    peft = import_peft()
    if peft is None:
        return "minipeft refuses r=0 and an option called rang"
    try:
        peft.LoraConfig(layers_pattern="h")
    except ValueError:
        return "peft refuses layers_pattern alone, minipeft r=0"
    hold(False, "peft took layers_pattern alone")
    return ""


@proves("tree-annotation")
def annotation() -> str:
    """Compiled."""
    return _no_python(CALL)


@proves("tree-outline")
def outline() -> str:
    """Compiled."""
    return _no_python(TREE)


def _no_python(text: str) -> str:
    try:
        compile(text, "note", "exec")
    except SyntaxError as error:
        return f"{type(error).__name__}: {error.msg}"
    hold(False, "it compiles")
    return ""


@proves("tree-abstract")
@of_peft
def abstract(peft: Any) -> str:
    """Made, and asked to merge."""
    kind = importlib.import_module("peft.tuners.tuners_utils").BaseTunerLayer
    hold(not kind.__abstractmethods__, f"{kind.__abstractmethods__}")
    for name in ("merge", "unmerge"):
        try:
            getattr(kind(), name)()
        except NotImplementedError:
            continue
        hold(False, f"{name} did nothing")
    return "BaseTunerLayer() can be made; merge() and unmerge() raise NotImplementedError"


@proves("tree-conv")
def conv() -> str:
    """torch's names."""
    hold(not hasattr(nn, "Conv2D") and hasattr(nn, "Conv2d"), "nn.Conv2D is there")
    peft = import_peft()
    if peft is None:
        return "torch.nn has Conv2d and no Conv2D"
    lora = importlib.import_module("peft.tuners.lora")
    hold(not hasattr(lora, "Conv2D"), "peft has Conv2D")
    return f"torch.nn has no Conv2D; peft's class is {bases(lora.Conv2d)}"


@proves("tree-prefix-config")
@of_peft
def prefix_config(peft: Any) -> str:
    """The path of the note still holds."""
    kind = importlib.import_module("peft.tuners.prefix_tuning").PrefixTuningConfig
    hold(kind is peft.PrefixTuningConfig, "another class")
    config, ours = kind(num_virtual_tokens=4), PrefixTuningConfig(num_virtual_tokens=4)
    hold(config.peft_type == ours.peft_type == "PREFIX_TUNING", f"{config.peft_type}")
    return f"{bases(kind)}, {config.peft_type.value}"
