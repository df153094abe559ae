"""Adapters: small bottlenecks inside the frozen blocks, each beside a path that skips it.

    h = x + W_up σ(W_down x + b_down) + b_up,   W_down (m, d),  W_up (d, m),  m ≪ d

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (arXiv 1902.00751), section 2.1 and
figure 2: one after the attention's and one after the feed-forward's projection back to width d,
before the sublayer's own residual is added. Pfeiffer et al., "AdapterFusion" (arXiv 2005.00247):
after the feed-forward only. Lecture note: 003_2a78d11827cb1020.txt, lines 225-275; its sentence and
its diagram put adapters *between* blocks and a LayerNorm in front. Its code has no LayerNorm, nor
has the paper's adapter: there is none here, and the model's own stay frozen. The note's Xavier
start of both matrices moves every output before the first step; W_up = 0 moves none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import unmatched
from ..checks.errors import StateError
from ..checks.rules import names_or_pattern, one_of, real, whole
from ..layers import bases
from ..layers.families import SUBLAYERS, model_type
from .config import LayerConfig, PeftType, matches, option
from .method import Layout, Method, Placement

# transformers' names, and torch's where they differ: a config.json's hidden_act can be copied.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
INITS = ("zero", "xavier")
SUBLAYER_NAMES = ("attention", "mlp")
PLACEMENTS = {"houlsby": ["attention", "mlp"], "pfeiffer": ["mlp"]}


def adapter_parameters(hidden_size: int, adapter_size: int) -> int:
    """How many numbers one adapter holds: 2dm + m + d, with d = hidden_size, m = adapter_size."""
    return 2 * hidden_size * adapter_size + adapter_size + hidden_size


class Adapter(Method["AdapterConfig"]):
    """h = x + W_up dropout(σ(W_down x + b_down)) + b_up.

    Args:
        hidden_size: d, the width of x.
        adapter_size: m, the width of the bottleneck.
        dropout: probability of dropping an entry inside the bottleneck, in training.
        hidden_act: σ, a name in `ACTIVATIONS`.
        init: "zero": W_up = 0, so that h = x at the start; "xavier": both matrices
            Xavier-uniform, as in the note.
        dtype, device: of the parameters.

    Attributes:
        down_project: W_down (m, d) and b_down (m,).
        up_project: W_up (d, m) and b_up (d,).

    Raises:
        ConfigError: an unknown `hidden_act` or `init`.
    """

    def __init__(
        self,
        hidden_size: int,
        adapter_size: int = 64,
        dropout: float = 0.1,
        *,
        hidden_act: str = "gelu",
        init: str = "zero",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        one_of(*ACTIVATIONS)("hidden_act", hidden_act)
        one_of(*INITS)("init", init)
        self.down_project = nn.Linear(hidden_size, adapter_size, dtype=dtype, device=device)
        self.activation = ACTIVATIONS[hidden_act]()
        self.up_project = nn.Linear(adapter_size, hidden_size, dtype=dtype, device=device)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)
        if init == "zero":
            nn.init.zeros_(self.up_project.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d) -> h (..., d), computed in the parameters' dtype and rounded once to x's."""
        z = self.down_project(x.to(self.down_project.weight.dtype))  # (..., m)
        z = self.dropout(self.activation(z))
        h: Tensor = x + self.up_project(z)  # (..., d)
        return h.to(x.dtype)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The adapter on the frozen layer's output y (..., d)."""
        h: Tensor = self(y)
        return h

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Always refused: σ stands between the frozen matrix and W_up.

        Raises:
            StateError: always.
        """
        raise StateError(
            f"an Adapter cannot be merged: its {type(self.activation).__name__} is not linear, so "
            f"it and the frozen layer are no one matrix; keep it beside the layer, or take it out "
            f"with unload()"
        )


def sublayers(name: str, value: Any) -> Any:
    """The rule of `target_modules`: None and "houlsby" are both sublayers, "pfeiffer" is one."""
    value = "houlsby" if value is None else value
    return names_or_pattern(name, PLACEMENTS.get(value, value) if isinstance(value, str) else value)


@dataclass
class AdapterConfig(LayerConfig):
    """What an adapter is, and where: the note's names and defaults. peft has no such method.

    Args:
        target_modules: ["attention", "mlp"], or "houlsby", is after both sublayers and the default;
            ["mlp"], or "pfeiffer", after the feed-forward only. Names of layers, a pattern and
            "all-linear" work as for every method, and on any model.
        adapter_dim: m, the width of the bottleneck.
        hidden_act: σ, a name in `ACTIVATIONS`.
        adapter_dropout: dropout inside the bottleneck, in [0, 1).
        init: "zero" starts as the identity; "xavier" is the note's start.
    """

    peft_type: ClassVar[str] = PeftType.ADAPTER
    also_called: ClassVar[dict[str, str]] = {
        "adapter_size": "adapter_dim",
        "bottleneck_dim": "adapter_dim",
        "dropout": "adapter_dropout",
        "activation": "hidden_act",
        "non_linearity": "hidden_act",
    }

    target_modules: Any = option(None, sublayers)
    adapter_dim: int = option(64, whole(1))
    hidden_act: str = option("gelu", one_of(*ACTIVATIONS))
    adapter_dropout: float = option(0.1, real(0, 1))
    init: str = option("zero", one_of(*INITS))


def ends_of_sublayers(layout: Layout, config: AdapterConfig) -> list[str] | None:
    """The layers that end the sublayers "attention" and "mlp"; other names by the usual rule.

    Raises:
        TargetError: which layers these are is not known for this kind of model.
    """
    target, kind = config.target_modules or (), model_type(layout.model)
    layers, wanted = layout.modules, [name for name in target if name in SUBLAYER_NAMES]
    if isinstance(target, str) or not wanted:
        return None
    if kind not in SUBLAYERS:
        linear = [name for name, layer in layers.items() if bases.is_linear(layer)]
        if all(any(matches([s], name) for name in linear) for s in wanted):
            return None  # this model has linear layers of these very names
        raise unmatched.no_sublayers(wanted, kind, layout.model, list(SUBLAYERS), linear)
    ends = {s: rf"(.*\.)?({SUBLAYERS[kind][s]})" for s in wanted}
    others = [name for name in target if name not in ends]
    lost = [entry for entry in others if not any(matches([entry], name) for name in layers)]
    if lost:
        raise unmatched.entries(lost, list(layers))
    gone = [s for s, end in ends.items() if not any(matches(end, n) for n in layers)]
    if gone:
        looked = [SUBLAYERS[kind][s] for s in gone]
        raise unmatched.no_such_sublayer(gone, looked, kind, layout.model)
    return [n for n in layers if matches(others, n) or any(matches(e, n) for e in ends.values())]


def beside(base: bases.Base, config: AdapterConfig) -> Adapter:
    """An adapter on the output of `base`, on its device, in at least float32."""
    return Adapter(
        base.out_features,
        config.adapter_dim,
        config.adapter_dropout,
        hidden_act=config.hidden_act,
        init=config.init,
        dtype=base.adapter_dtype,
        device=base.device,
    )


def count(base: bases.Base, config: AdapterConfig) -> int:
    """2dm + m + d, with d the width of the layer's output."""
    return adapter_parameters(base.out_features, config.adapter_dim)


ADAPTER = Placement(build=beside, count=count, select=ends_of_sublayers)
