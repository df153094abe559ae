"""The proofs of lesson 13 on merging and undoing it; those on saving are in saved.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ... import LoraConfig, get_peft_model
from ...methods.lora import LoRALayer
from ...tuner.slots import Wrapper
from ..claims import hold, proves
from ..oracle import import_peft


def small() -> Any:
    """A GPT-2 of two blocks, width 32, in evaluation mode."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 16}
        config = GPT2Config(**sizes, vocab_size=40, bos_token_id=0, eos_token_id=0)
        model: Any = GPT2LMHeadModel(config)
        return model.eval()


@contextmanager
def no_bars() -> Iterator[None]:
    """Keeps transformers from drawing progress bars for two kilobytes."""
    from transformers.utils import logging

    quiet: Any = logging
    bars = quiet.is_progress_bar_enabled()
    quiet.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            quiet.enable_progress_bar()


def adapted(base: nn.Module | None = None, **options: Any) -> Any:
    """The same with a LoRA that does something."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(r=4, init_lora_weights=False, **options)
        return get_peft_model(base or small(), config).eval()


def logits(model: Any) -> Tensor:
    """On one row of six tokens."""
    with torch.no_grad():
        return model(input_ids=torch.arange(6)[None]).logits  # type: ignore[no-any-return]


def weights(model: nn.Module) -> dict[str, Tensor]:
    """All weights but the adapters', by name."""
    return {k: t.clone() for k, t in model.state_dict().items() if "lora_" not in k}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> int:
    """How many numbers differ."""
    return sum(int((after[key] != t).sum()) for key, t in before.items())


def flops(layer: nn.Module, x: Tensor) -> int:
    """Multiplications and additions of one call."""
    with FlopCounterMode(display=False) as counter:
        layer(x)
    return int(counter.get_total_flops())


@proves("merge-overhead")
def overhead() -> str:
    """One layer of 4096, r = 16, counted beside, merged and bare, on the meta device."""
    with torch.device("meta"):
        layer, x = nn.Linear(4096, 4096, bias=False), torch.empty(1, 4096)
        wrapper = Wrapper(layer)
        wrapper.adapters["a"] = LoRALayer(4096, 4096, rank=16)
        wrapper.activate(("a",), ())
        bare, beside = flops(layer, x), flops(wrapper, x)
        wrapper.merge(("a",))
        hold(flops(wrapper, x) == bare, "a merged layer still computes the update")
    hold(beside - bare == 2 * 16 * 8192 and bare == 2 * 4096**2, f"{beside - bare} of {bare}")
    return f"4096 to 4096, r = 16: {(beside - bare) / bare:.2%} more beside the layer, 0 merged"


@proves("merge-away")
def away() -> str:
    """Parameters and logits, before and after."""
    base = small()
    names = {name: p.shape for name, p in base.named_parameters()}
    model = adapted(base)
    beside = logits(model)
    merged = model.merge_and_unload()
    hold({name: p.shape for name, p in merged.named_parameters()} == names, "parameters differ")
    gap = float((logits(merged) - beside).abs().max())
    hold(gap < 1e-4, f"the logits differ by {gap}")
    return f"{len(names)} parameters as before, the logits within {gap:.0e}"


@proves("merge-irreversible")
def irreversible() -> str:
    """No original is left, and the model given is the model returned."""
    base = small()
    before = weights(base)
    merged = adapted(base).merge_and_unload()
    hold(merged is base, "another model came back")
    hold(not any(isinstance(m, Wrapper) for m in merged.modules()), "a wrapper was left")
    n = changed(before, weights(base))
    hold(n > 0, "nothing changed")
    return f"the given model itself has {n:,} other weights, and no copy of the old ones"


@proves("merge-copy")
def no_copy() -> str:
    """Peft, if it is here; ours in any case."""
    base = small()
    model = adapted(base)
    before = weights(base)
    for _ in range(3):
        model.merge_adapter()
        model.unmerge_adapter()
    hold(changed(before, weights(base)) == 0, "ours is not exact")
    peft = import_peft()
    if peft is None:
        w, d = torch.randn(64, 64), torch.randn(64, 64)
        n = int(((w + d) - d != w).sum())
        hold(n > 0, "subtracting is exact")
        return f"(W + ΔW) - ΔW differs from W in {n} of 4,096 numbers; ours in 0"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = peft.PeftModel.from_pretrained(small(), folder)
    start = weights(theirs)
    held = sum(t.numel() for t in theirs.state_dict().values())
    theirs.merge_adapter()
    hold(held == sum(t.numel() for t in theirs.state_dict().values()), "peft keeps a copy")
    theirs.unmerge_adapter()
    n, many = changed(start, weights(theirs)), 2 * 32 * 96
    hold(n > 0, "peft's unmerge was exact")
    return f"peft's round trip changed {n:,} of {many:,} merged weights; ours 0"


@proves("merge-plain")
def plain() -> str:
    """Saved and loaded by transformers alone."""
    from transformers import GPT2LMHeadModel

    model = adapted()
    beside = logits(model)
    with no_bars(), tempfile.TemporaryDirectory() as folder:
        model.merge_and_unload().save_pretrained(folder)
        again = GPT2LMHeadModel.from_pretrained(folder)
    gap = float((logits(again) - beside).abs().max())
    hold(gap < 1e-4, f"the logits differ by {gap}")
    return f"{type(again).__name__}.from_pretrained, the logits within {gap:.0e}"


@proves("merge-apart")
def apart() -> str:
    """A second adapter costs its own numbers, and switching moves no weight."""
    base = small()
    before = weights(base)
    model = adapted(base)
    one = sum(p.numel() for p in model.parameters())
    model.add_adapter("b", LoraConfig(r=4))
    more = sum(p.numel() for p in model.parameters()) - one
    model.set_adapter("b")
    after = {key: t for key, t in weights(base).items() if "base_layer" not in key}
    hold(changed(after, before) == 0 and more == 2 * 4 * (32 + 96), f"{more}")
    layers = [m for m in base.modules() if isinstance(m, Wrapper)]
    old = [t for key, t in before.items() if key.endswith("c_attn.weight")]
    now: list[Any] = [layer.base_layer.weight for layer in layers]
    hold(all(map(torch.equal, old, now)), "switching moved a weight")
    return f"a second adapter takes {more:,} numbers; switching changes no weight"
