"""IA³: scale what flows through a layer, entry by entry, by a learned vector that starts at one.

    attention     softmax(Q (ℓ_k ⊙ K)ᵀ / √d_head) (ℓ_v ⊙ V)
    feed-forward  (ℓ_ff ⊙ γ(W₁ x)) W₂

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning" (arXiv 2205.05638), section 3.3. Lecture note: 001_6dba3b3b8af31941.txt, lines 141-154,
where "Q, K" should read K and V. Where one layer computes Q, K and V together, as in GPT-2 and
Bloom, Hugging Face peft scales Q too; `fused_qkv="kv"` is the paper's reading.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import unmatched
from ..checks.errors import CheckpointError
from ..checks.rules import flag, names_or_pattern, one_of
from ..layers import bases
from ..layers.families import FUSED_NAME, IA3_FEEDFORWARD, IA3_TARGETS, model_type, qkv_rows
from .config import LayerConfig, PeftType, matches, option
from .method import Layout, Method, Placement


class IA3(Method["IA3Config"]):
    """ℓ ⊙ y on a layer's output; with feedforward=True, ℓ ⊙ x on its input.

    Args:
        features: the width of what is scaled.
        feedforward: scale the input of the layer instead of its output.
        init_ia3_weights: ℓ = 1, so that nothing changes at the start; False: ℓ normal, for tests.

    Attributes:
        ia3_l: ℓ, shape (features, 1), or (1, features) on the feed-forward: as peft stores it,
            so that ℓ ⊙ W scales the rows or the columns of W (out, in).
    """

    def __init__(self, features: int, feedforward: bool = False, init_ia3_weights: bool = True):
        super().__init__()
        self.changes_input = feedforward
        shape = (1, features) if feedforward else (features, 1)
        self.ia3_l = nn.Parameter(torch.ones(shape) if init_ia3_weights else torch.randn(shape))

    def vector(self) -> Tensor:
        """ℓ for all entries of what is scaled, in the shape of `ia3_l`."""
        return self.ia3_l

    def forward(self, x: Tensor) -> Tensor:
        """x (..., features) -> ℓ ⊙ x, multiplied in ℓ's dtype and rounded once to x's."""
        return (x * self.vector().flatten()).to(x.dtype)

    def before(self, x: Tensor) -> Tensor:
        """The feed-forward's input, scaled."""
        scaled: Tensor = self(x) if self.changes_input else x
        return scaled

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The output, scaled, unless the input is."""
        scaled: Tensor = y if self.changes_input else self(y)
        return scaled

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Rows: ℓ ⊙ (W x + b) = (ℓ ⊙ W) x + ℓ ⊙ b. Columns: W (ℓ ⊙ x) + b = (W ⊙ ℓᵀ) x + b."""
        whole = self.vector()
        if bias is not None and not self.changes_input:
            bias = whole.flatten() * bias
        return whole * weight, bias

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"features={self.vector().numel()}, feedforward={self.changes_input}"


def is_fused(model: nn.Module | None, name: str) -> bool:
    """Whether the layer called `name` computes Q, K and V together, in a layout that we know."""
    return name.rsplit(".", 1)[-1] == FUSED_NAME.get(str(model_type(model)))


class FusedIA3(IA3):
    """ℓ ⊙ y beside a layer that computes Q, K and V together: ℓ is one on Q's rows, for good.

    On disk ℓ is whole, (features, 1), so that Hugging Face peft reads it.

    Args:
        features: the layer's width, 3d.
        rows: which of them are K's, then V's, (2d,), int64.
        init_ia3_weights: as in `IA3`.

    Attributes:
        ia3_l: ℓ on those rows, (2d, 1).
    """

    rows: Tensor

    def __init__(self, features: int, rows: Tensor, init_ia3_weights: bool = True):
        super().__init__(len(rows), init_ia3_weights=init_ia3_weights)
        self.features = features
        self.register_buffer("rows", rows, persistent=False)

    def vector(self) -> Tensor:
        """Ones on Q's rows and `ia3_l` on the others, (3d, 1)."""
        return self.ia3_l.new_ones(self.features, 1).index_copy(0, self.rows, self.ia3_l)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        whole = self.vector()
        destination[f"{prefix}ia3_l"] = whole if keep_vars else whole.detach()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        whole = state_dict.get(f"{prefix}ia3_l")
        if whole is not None and whole.shape == (self.features, 1):
            others = whole.cpu().index_fill(0, self.rows.cpu(), 1.0)  # Q's rows as given
            if not whole.is_meta and not bool((others == 1).all()):
                raise CheckpointError(
                    "this IA³ also scales Q's rows, which fused_qkv='kv' keeps at one; "
                    "load it with fused_qkv='qkv'"
                )
            state_dict = {f"{prefix}ia3_l": whole[self.rows]}
        super()._load_from_state_dict(state_dict, prefix, *rest)


def some_or_none(name: str, value: Any) -> Any:
    """The rule of `feedforward_modules`: names or a pattern; an empty list means none."""
    return (
        value
        if value is None
        else []
        if value in ([], (), set())
        else names_or_pattern(name, value)
    )


@dataclass
class IA3Config(LayerConfig):
    """What an IA³ is: peft's names, defaults and meanings, and `fused_qkv`.

    Args:
        target_modules: which layers are scaled.
        feedforward_modules: which of them on the input; names or a pattern, as target_modules;
            [] for none; None for the architecture's default. Two lists are joined: what is named
            here is scaled even if it is not among the targets. A pattern chooses alone.
        init_ia3_weights: start with ℓ = 1; False starts at random, for tests.
        fan_in_fan_out: as in `LoraConfig`.
        fused_qkv: beside a layer that computes Q, K and V together, "qkv" scales all three, as
            peft does; "kv" keys and values only, as the paper does.
    """

    peft_type: ClassVar[str] = PeftType.IA3
    also_called: ClassVar[dict[str, str]] = {"init_weights": "init_ia3_weights"}
    default_targets: ClassVar[dict[str, tuple[str, ...]]] = IA3_TARGETS

    feedforward_modules: str | Collection[str] | None = option(None, some_or_none)
    init_ia3_weights: bool = option(True, flag)
    fan_in_fan_out: bool = option(False, flag)
    fused_qkv: str = option("qkv", one_of("qkv", "kv"))

    def check(self) -> None:
        """Two lists are joined: peft demands that the one holds the other, string by string."""
        super().check()
        names, target = self.feedforward_modules, self.target_modules
        if isinstance(names, list) and isinstance(target, list) and not {*names} <= {*target}:
            self.target_modules = list(dict.fromkeys([*target, *names]))


def feedforward_of(config: IA3Config, kind: str | None) -> str | Collection[str]:
    """`feedforward_modules`; left out, the entries of the family's default among the targets."""
    if config.feedforward_modules is not None:
        return config.feedforward_modules
    default, target = IA3_FEEDFORWARD.get(str(kind), ()), config.target_modules
    if target is None or isinstance(target, str):
        return list(default)
    # Of two names one of which ends in the other, the longer means fewer layers.
    found = [n for n in target for d in default if n == d or n.endswith(f".{d}")]
    found += [d for n in target for d in default if d.endswith(f".{n}")]
    return list(dict.fromkeys(found))


def resolve(config: IA3Config, kind: str | None) -> dict[str, Any]:
    """The options that the family decides, where they are left out."""
    names, target = feedforward_of(config, kind), config.target_modules
    resolved: dict[str, Any] = {"feedforward_modules": names}
    target = list(IA3_TARGETS.get(str(kind), ())) if target is None else target
    if isinstance(names, list) and isinstance(target, list):  # peft demands that one holds both
        resolved["target_modules"] = list(dict.fromkeys([*target, *names]))
    return resolved


def joined_names(layout: Layout, config: IA3Config) -> list[str] | None:
    """The default's layers and those of a list of `feedforward_modules`; else by the usual rule."""
    given, kind = config.feedforward_modules, model_type(layout.model)
    if config.target_modules is not None or not isinstance(given, list) or kind not in IA3_TARGETS:
        return None  # two lists given are joined in the config already
    target, names = list(dict.fromkeys([*IA3_TARGETS[kind], *given])), layout.modules
    lost = [entry for entry in target if not any(matches([entry], name) for name in names)]
    if lost:
        raise unmatched.entries(lost, list(names))
    return [name for name in names if matches(target, name)]


def refuse_idle(layout: Layout, config: IA3Config, names: list[str]) -> None:
    """Refuse options that would do nothing beside the layers called `names`.

    Raises:
        TargetError: which.
    """
    kind, given, target = str(model_type(layout.model)), config.feedforward_modules, None
    target = config.target_modules or list(IA3_TARGETS.get(kind, ()))
    scaled = feedforward_of(config, kind) or []
    if config.fused_qkv == "kv" and not any(
        is_fused(layout.model, n) and not matches(scaled, n) for n in names
    ):
        raise unmatched.nothing_fused(target, FUSED_NAME, layout.model)
    # peft writes its family's entries into every file, whether a pattern chooses them or not.
    own = isinstance(given, list) and {*given} <= {*IA3_FEEDFORWARD.get(kind, ())}
    if not own and (isinstance(target, str) or isinstance(given, str)):
        for part in [given] if isinstance(given, str) else [[entry] for entry in given or ()]:
            if not any(matches(part, n) for n in names):
                raise unmatched.no_feedforward(part, target)


def width(base: bases.Base, config: IA3Config) -> tuple[int, bool, Tensor | None]:
    """The width of what is scaled, whether it is the input, and K's and V's rows if only they."""
    kind = model_type(base.model)
    if matches(feedforward_of(config, kind) or [], base.name):
        return base.in_features, True, None
    rows = None
    if config.fused_qkv == "kv" and is_fused(base.model, base.name):
        model: Any = base.model
        # GPT-2's cross-attention has a c_attn of K and V alone, (2d,): all of it counts.
        if base.out_features == 3 * model.config.hidden_size:
            parts = qkv_rows(model, base.out_features) or {}
            rows = torch.cat([parts["k"], parts["v"]])  # (2d,)
    return base.out_features, False, rows


def beside(base: bases.Base, config: IA3Config) -> IA3:
    """IA³ beside `base`, on its device, in at least float32."""
    features, feedforward, rows = width(base, config)
    start = config.init_ia3_weights
    made = IA3(features, feedforward, start) if rows is None else FusedIA3(features, rows, start)
    return made.to(base.device, base.adapter_dtype)


def count(base: bases.Base, config: IA3Config) -> int:
    """Out; in on the feed-forward; 2d of 3d where only K and V of a fused layer are scaled."""
    features, _, rows = width(base, config)
    return features if rows is None else len(rows)


IA3_PLACEMENT = Placement(
    build=beside,
    count=count,
    defaults=IA3_TARGETS,
    select=joined_names,
    demand=refuse_idle,
    resolve=resolve,
)
