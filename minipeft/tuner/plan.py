"""Plans: an adapter complete, checked, even filled from a file, and not yet attached.

    names ──► layers as matrices ──► modules beside them          nothing of the model is touched

Whatever can be refused is refused while planning, so a refused call leaves the model as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..checks import doubts, refuse
from ..layers import bases
from ..layers.families import model_type
from ..layers.names import ALL_LINEAR, all_linear
from ..methods.config import LayerConfig, PeftConfig, matches
from ..methods.method import REGISTRY, Layout, Method, Option
from ..methods.virtual_tokens import PromptConfig, PromptMethod
from . import demands
from .copies import SavedModule
from .heads import copies_of, demand_head, find_heads
from .slots import named_layers


@dataclass
class Choice:
    """What a config means in a model: which layers and modules; nothing is built yet.

    Attributes:
        config: what was asked for.
        placement: the method's.
        asked: its further options that are asked for.
        layout: the model, as it will be.
        reshape: what changes the model's layers before the adapter comes.
        targets: `target_modules`, with the architecture's default in it.
        selected: whether the layers were found by a rule of the method's own.
        named: the layers that `target_modules` means.
        layers: those of them that get the method, by dotted name.
        more: those where an option stands by itself, with the option.
        sizes: for virtual tokens, the sizes that they have in this model.
    """

    config: Any
    placement: Any
    asked: list[Option]
    layout: Layout
    reshape: Any = None
    targets: Any = None
    selected: bool = False
    named: list[str] = field(default_factory=list)
    layers: dict[str, bases.Base] = field(default_factory=dict)
    more: dict[str, tuple[Option, bases.Base]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass
class Plan:
    """An adapter ready to be attached.

    Attributes:
        name: its name.
        config: its own copy of the config, with what the model decides filled in.
        layout: the model as it will be.
        methods: the method modules, by the dotted name of the layer they go beside.
        stand_on: layers that take the frozen ones' places, by dotted name (LoftQ's).
        prompt: the module with the virtual tokens, for a method that has them.
        copies: the modules trained whole, by the dotted name of the module they stand for.
        reshape: what changes the model's layers before the adapter comes.
    """

    name: str
    config: PeftConfig
    layout: Layout
    methods: dict[str, Method[Any]] = field(default_factory=dict)
    stand_on: dict[str, nn.Module] = field(default_factory=dict)
    prompt: PromptMethod[Any] | None = None
    copies: dict[str, nn.Module] = field(default_factory=dict)
    reshape: Any = None

    def frozen(self) -> dict[str, nn.Module]:
        """The layers that the adapter stands on, by dotted name."""
        return {path: self.stand_on.get(path, self.layout.modules[path]) for path in self.methods}


def plan(model: nn.Module, config: PeftConfig, name: str) -> Plan:
    """Check everything and build a new adapter beside the model, which is not touched.

    Args:
        model: the model, with or without adapters in it.
        config: what to build.
        name: the adapter's name.

    Raises:
        ConfigTypeError, AdapterNameError, TargetError: what is wrong, and the fix.
    """
    choice = choose(model, config)
    demand(choice)
    planned = build(choice, name)
    if planned.prompt is not None and choice.placement.start is not None:
        choice.placement.start(planned.prompt, model, config)
    ranks = {path: method.ranks for path, method in planned.methods.items()}
    if any(r > most for r, most in ranks.values()):
        doubts.ranks(ranks)
    return planned


def choose(model: nn.Module, config: PeftConfig) -> Choice:
    """The layers and modules that a config means; the model is walked once.

    Raises:
        ConfigTypeError, MinipeftError: no config, or one of an unknown method.
        TargetError: nothing is meant, or what cannot be adapted.
    """
    if not isinstance(config, (LayerConfig, PromptConfig)):
        raise refuse.no_config(config)
    if config.peft_type not in REGISTRY:
        raise refuse.unregistered(config, REGISTRY)
    config.check()  # again: a list or a dict in it may have been changed since it was made
    _, placement = REGISTRY[config.peft_type]
    asked, modules = config.asked(), {n: m for n, m in named_layers(model) if n}
    reshape = next((r for o in asked if (r := o.reshape(config, model)) is not None), None)
    modules = modules if reshape is None else reshape.modules(modules)
    trained_whole = config.modules_to_save or config.task_type is not None
    heads = find_heads(modules, config) if trained_whole else {}
    taken = {n: m.original_module for n, m in modules.items() if isinstance(m, SavedModule)}
    choice = Choice(config, placement, asked, Layout(model, modules, heads, taken), reshape)
    if isinstance(config, LayerConfig):
        choose_layers(choice)
    else:
        choice.sizes = config.of_model(model, keys=not placement.kind.inserted)
        placement.kind.reader(model)  # a model without a place for the virtual tokens refuses here
    return choice


def choose_layers(choice: Choice) -> None:
    """The layers that `target_modules` and the options asked for mean, seen as matrices."""
    config, layout, placement = choice.config, choice.layout, choice.placement
    names = None if placement.select is None else placement.select(layout, config)
    choice.selected, target = names is not None, config.target_modules
    if target is None and names is None:
        kind = model_type(layout.model)
        if kind not in placement.defaults:
            raise demands.no_default(layout, placement)
        target = list(placement.defaults[kind])
    if names is None and isinstance(target, str) and target.lower() == ALL_LINEAR:
        names = all_linear(layout.model, layout.modules, config.task_type)
    if names is None:
        names = [name for name in layout.modules if matches(target, name)]
    heads, inside = layout.heads, tuple(f"{head}." for head in layout.heads)
    # what is trained whole is not adapted as well
    hits = [n for n in names if n not in heads and not (inside and n.startswith(inside))]
    if config.exclude_modules is not None:
        hits = [n for n in hits if not matches(config.exclude_modules, n)]
    choice.named = hits
    for option in choice.asked if hits else ():
        hits = option.narrow(config, hits)
    choice.targets = target
    if not hits:
        raise demands.nothing(layout, config, target)
    choice.layers = seen(choice, hits)
    for option in choice.asked:
        for name, base in option.more(config, layout, hits).items():
            base.name, base.model = name, layout.model
            choice.more[name] = (option, base)


def seen(choice: Choice, names: list[str]) -> dict[str, bases.Base]:
    """The layers called `names` as the method sees them.

    Raises:
        TargetError: one is of another kind.
    """
    found: dict[str, bases.Base] = {}
    for name in names:
        layer = choice.layout.modules[name]
        base = choice.placement.sees(layer)
        if base is None:
            raise demands.unsupported(name, layer, choice.targets, choice.placement)
        base.name, base.model = name, choice.layout.model
        found[name] = base
    return found


def demand(choice: Choice) -> None:
    """Refuse what means nothing in this model; not asked of an adapter that comes from a file."""
    config, layout, placement = choice.config, choice.layout, choice.placement
    if config.task_type is not None:
        demand_head(layout.model, config, layout.heads)
    if not isinstance(config, LayerConfig):
        if placement.demand is not None:
            placement.demand(config)
        return
    target, names = choice.targets, layout.modules
    if not choice.selected and not isinstance(target, str):
        lost = [entry for entry in target if not any(matches([entry], n) for n in names)]
        if lost or layout.heads:
            demands.demand_entries(layout, lost, target)
    if config.exclude_modules is not None:
        demands.demand_exclusions(list(names), config.exclude_modules)
    if getattr(config, "fan_in_fan_out", False):
        demands.demand_transposed(choice.layers)
    if placement.demand is not None:
        placement.demand(layout, config, list(choice.layers))
    for option in choice.asked:
        option.demand(config, layout, choice.layers, choice.named)


def build(choice: Choice, name: str) -> Plan:
    """The modules of an adapter, on the devices of their layers, in their modes."""
    config, model = choice.config, choice.layout.model
    copies = copies_of(choice.layout.heads) if choice.layout.heads else {}
    named = getattr(getattr(model, "config", None), "_name_or_path", None) or None
    resolved: dict[str, Any] = {"base_model_name_or_path": config.base_model_name_or_path or named}
    if not isinstance(config, LayerConfig):
        prompt = choice.placement.build(model, config).train(model.training)
        own = config.own(**resolved, **choice.sizes)
        return Plan(name, own, choice.layout, prompt=prompt, copies=copies)
    planned = Plan(name, config, choice.layout, copies=copies, reshape=choice.reshape)
    for path, base in choice.layers.items():
        method, stands_on = beside(choice, base)
        planned.methods[path] = method.train(base.layer.training)
        if stands_on is not base:
            planned.stand_on[path] = stands_on.layer
    for path, (option, base) in choice.more.items():
        planned.methods[path] = option.alone(config, base).train(base.layer.training)
    if choice.placement.defaults and not choice.selected:  # else they are found by another rule
        target = choice.targets
        resolved["target_modules"] = target if isinstance(target, str) else list(target)
    if choice.placement.resolve is not None:
        resolved |= choice.placement.resolve(config, model_type(model))
    if choice.layout.heads:
        resolved["modules_to_save"] = config.heads()
    planned.config = config.own(**resolved)
    return planned


def here(choice: Choice, base: bases.Base) -> list[Option]:
    """The further options that have a part in one layer."""
    return [o for o in choice.config.pieces if o in choice.asked or isinstance(base, o.beside)]


def beside(choice: Choice, base: bases.Base) -> tuple[Method[Any], bases.Base]:
    """The method's module beside one layer, and the layer that it stands on."""
    config, build, options = choice.config, choice.placement.build, here(choice, base)
    for option in options:
        config = option.at(config, base.name)
    own_kind = next((option for option in options if isinstance(base, option.beside)), None)
    method = build(base, config) if own_kind is None else own_kind.make(config, base)
    stands_on = base
    for option in options:
        method, stands_on = option.built(choice.config, method, stands_on)
    return method, stands_on


def find_targets(model: nn.Module, config: PeftConfig) -> dict[str, bases.Base]:
    """The layers that a config means, by dotted name, checked as for a new adapter.

    Raises:
        ConfigTypeError, TargetError: as `plan`.
    """
    choice = choose(model, config)
    demand(choice)
    return {**choice.layers, **{path: base for path, (_, base) in choice.more.items()}}


def counted(choice: Choice) -> dict[str, int]:
    """How many parameters an adapter has beside each layer, by formula; nothing is built."""
    found: dict[str, int] = {}
    for path, base in choice.layers.items():
        config, options = choice.config, here(choice, base)
        for option in options:
            config = option.at(config, base.name)
        n = choice.placement.count(base, config)
        for option in options:
            n = option.count(config, base, n)
        found[path] = n
    more = {
        path: option.count(choice.config, base, 0) for path, (option, base) in choice.more.items()
    }
    return {**found, **more}
