"""The proofs of lesson 13 on saving and loading, and on what holds what."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from ... import LoraConfig, LoraModel, PeftModel, get_peft_model
from ..claims import hold, proves
from ..oracle import import_peft
from .merge import adapted, logits, no_bars, small


@proves("saved-copy")
def saved() -> str:
    """One step on a norm named in modules_to_save."""
    base = small()
    original = base.transformer.ln_f.weight
    start = original.detach().clone()
    model = adapted(base, modules_to_save=["ln_f"])
    copy = model.get_base_model().transformer.ln_f.adapters["default"].weight
    loss = model(input_ids=torch.arange(6)[None]).logits.square().mean()
    loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    hold(original.grad is None and torch.equal(original, start), "the original was trained")
    moved = int((copy != start).sum())
    hold(moved > 0, "the copy was not trained")
    return f"after a step {moved} of {len(start)} numbers of the copy moved, of the original 0"


@proves("saved-tied")
def saved_tied() -> str:
    """Bloom, head tied: a step on a copy of the embedding."""
    from transformers import BloomConfig, BloomForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        base: Any = BloomForCausalLM(
            BloomConfig(vocab_size=40, hidden_size=16, n_layer=1, n_head=2)
        )
        model = get_peft_model(base, LoraConfig(r=2, modules_to_save=["word_embeddings"]))
        start = base.lm_head.weight.detach().clone()
        model(input_ids=torch.arange(6)[None]).logits.square().mean().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    copy = base.transformer.word_embeddings.adapters["default"].weight
    hold(torch.equal(base.lm_head.weight, start), "the head moved")
    rows = int((copy != start).any(1).sum())
    hold(rows == 6, f"{rows} rows moved")
    return (
        f"after a step {rows} rows of the embedding's copy moved (6 words were read), of the head 0"
    )


@proves("loads-adapter")
def loads() -> str:
    """To the bit, and frozen unless asked for."""
    model = adapted()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        frozen = PeftModel.from_pretrained(small(), folder)
        trained = PeftModel.from_pretrained(small(), folder, is_trainable=True)
    hold(torch.equal(logits(frozen), logits(model)), "the logits differ")
    counts = [m.get_nb_trainable_parameters()[0] for m in (frozen, trained)]
    hold(counts == [0, 2 * 4 * (32 + 96)], f"{counts}")
    return f"equal to the bit; {counts[0]} parameters train, with is_trainable=True {counts[1]:,}"


@proves("base-any-module")
def any_module() -> str:
    """A model without transformers."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["0"]))
    hold(model.get_base_model() is net, "something else came back")
    return f"for a {type(net).__name__} it is that {type(net).__name__}"


@proves("lora-model-saves")
def lora_model() -> str:
    """What each one's save_pretrained writes."""
    found = {}
    with no_bars(), tempfile.TemporaryDirectory() as folder:
        config = LoraConfig(r=4)
        LoraModel(small(), config, "default").save_pretrained(f"{folder}/lora")
        model = get_peft_model(small(), config)
        model.save_pretrained(f"{folder}/peft")
        for name in ("lora", "peft"):
            (file,) = Path(folder, name).glob("*.safetensors")
            with safe_open(file, "pt") as tensors:
                found[name] = len(list(tensors.keys()))
    held = type(model.base_model)
    hold(issubclass(LoraModel, held) and isinstance(model.base_model, nn.Module), f"{held}")
    hold(found["lora"] > found["peft"] == 4, f"{found}")
    return f"LoraModel writes {found['lora']} tensors, PeftModel the adapter's {found['peft']}"


@proves("peft-model-argument")
def argument() -> str:
    """The signature."""
    names = list(inspect.signature(get_peft_model).parameters)
    hold(names == ["model", "peft_config", "adapter_name"], f"{names}")
    peft = import_peft()
    if peft is not None:
        theirs = list(inspect.signature(peft.get_peft_model).parameters)
        hold(theirs[:3] == names, f"{theirs}")
    return ", ".join(names)
