"""Adapters: the note's class as the oracle, and algebra by hand in one block of every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import output, shake, tiny
from tiny_models import HEADS, VOCAB, WIDTH
from torch import Tensor, nn

from minipeft import AdapterConfig, PeftModel, get_peft_model
from minipeft.layers.families import SUBLAYERS
from minipeft.tuner.slots import Wrapper

TEXT = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_attention_heads": HEADS}
TEXT |= {"num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 32}


def _of(auto: str, config: Any) -> nn.Module:
    return getattr(transformers, auto).from_config(config).eval()


# Families of the table that conftest does not make.
MORE: dict[str, Callable[[], nn.Module]] = {
    "gemma": lambda: _of(
        "AutoModelForCausalLM",
        transformers.GemmaConfig(**TEXT, num_key_value_heads=1, head_dim=8, pad_token_id=0),
    ),
    "roberta": lambda: _of(
        "AutoModelForMaskedLM", transformers.RobertaConfig(**TEXT, pad_token_id=0)
    ),
    "xlm-roberta": lambda: _of(
        "AutoModelForMaskedLM", transformers.XLMRobertaConfig(**TEXT, pad_token_id=0)
    ),
    "electra": lambda: _of(
        "AutoModelForMaskedLM", transformers.ElectraConfig(**TEXT, embedding_size=WIDTH)
    ),
    "mt5": lambda: _of(
        "AutoModelForSeq2SeqLM",
        transformers.MT5Config(
            vocab_size=VOCAB, d_model=WIDTH, d_kv=8, d_ff=24, num_heads=HEADS, num_layers=2,
            decoder_start_token_id=0, eos_token_id=None, feed_forward_proj="gated-gelu",
        ),
    ),
    "bart": lambda: _of(
        "AutoModelForSeq2SeqLM",
        transformers.BartConfig(
            vocab_size=VOCAB, d_model=WIDTH, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=24,
            decoder_ffn_dim=24, max_position_embeddings=32, pad_token_id=0,
            decoder_start_token_id=1, bos_token_id=1, eos_token_id=None,
            forced_eos_token_id=None,
        ),
    ),
}  # fmt: skip
MADE = ["gpt2", "bloom", "llama", "mistral", "qwen2", "qwen3", "opt", "gpt_neox", "bert", "t5"]
MADE += ["vit"]
POST_NORM = ["bert", "roberta", "xlm-roberta", "electra", "bart"]


def made(name: str) -> Any:
    """A tiny model of a family."""
    return MORE[name]() if name in MORE else tiny(name)


def adapted_to(name: str, **options: Any) -> PeftModel:
    """A tiny model with adapters that change its output."""
    model = get_peft_model(made(name), AdapterConfig(**{"adapter_dim": 4, **options})).eval()
    shake(model)
    return model


# --- where it stands -----------------------------------------------------------------------------


def first_block(model: nn.Module, inside: str) -> tuple[str, dict[str, Wrapper]]:
    """The first block of the encoder or decoder, and the slots in it."""
    slots = {n: m for n, m in model.named_modules() if isinstance(m, Wrapper) and inside in n}
    first = next(iter(slots)).split(".")
    path = ".".join(first[: next(i for i, part in enumerate(first) if part.isdigit()) + 1])
    return path, {n: m for n, m in slots.items() if n.startswith(f"{path}.")}


@pytest.mark.parametrize(
    ("name", "inside"),
    [(n, "") for n in [*MADE, *MORE] if n not in ("t5", "mt5", "bart")]
    + [(n, side) for n in ("t5", "mt5", "bart") for side in ("encoder.", "decoder.")],
)
def test_its_output_is_what_the_residual_stream_gets(name: str, inside: str):
    """block(x) = x + h_attention (+ h_cross) + h_mlp; with norms after each sum for BERT and BART.

    Every h is y + W_up σ(W_down y + b_down) + b_up, by hand from the frozen layer's own y.
    """
    model = adapted_to(name)
    base = model.get_base_model()
    path, slots = first_block(base, inside)
    block = base.get_submodule(path)
    seen: dict[str, Tensor] = {}

    def entering(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen["x"] = args[0] if args else kwargs["hidden_states"]

    def leaving(_: nn.Module, args: Any, out: Any) -> None:
        seen["out"] = out[0] if isinstance(out, tuple) else out

    block.register_forward_pre_hook(entering, with_kwargs=True)
    block.register_forward_hook(leaving)
    for n, slot in slots.items():
        keep = lambda m, args, out, n=n: seen.__setitem__(n, out)  # noqa: E731
        slot.base_layer.register_forward_hook(keep)
    output(model, name if name not in MORE else "t5" if name in ("mt5", "bart") else "gpt2")

    assert len(slots) == (3 if inside == "decoder." else 2)
    h = seen["x"]
    norms = [m for n, m in block.named_modules() if "LayerNorm" in n or "layer_norm" in n]
    for index, (n, slot) in enumerate(slots.items()):
        state, y = slot.adapters["default"].state_dict(), seen[n]
        z = F.gelu(y @ state["down_project.weight"].T + state["down_project.bias"])
        change = z @ state["up_project.weight"].T + state["up_project.bias"]
        assert change.abs().max() > 0.01
        h = h + (y + change).view(h.shape)
        if name in POST_NORM:
            h = norms[index](h)
    # the same sums, but for GPT-NeoX in another order: at most 7e-8 was measured, in float32
    assert (h - seen["out"]).abs().max() <= 5e-7 * h.abs().max()


def test_every_family_of_the_table_is_looked_at():
    assert {*MADE, *MORE} == SUBLAYERS.keys()


@pytest.mark.parametrize("name", [*MADE, *MORE])
def test_pfeiffer_is_the_feed_forward_alone(name: str):
    paths = {}
    for target in (None, "houlsby", ["attention", "mlp"], "pfeiffer", ["mlp"], ["attention"]):
        model = get_peft_model(made(name), AdapterConfig(target_modules=target, adapter_dim=2))
        modules = model.get_base_model().named_modules()
        paths[str(target)] = [n for n, m in modules if isinstance(m, Wrapper)]
        if name not in MORE:
            assert torch.equal(output(model, name), output(tiny(name), name))  # the identity
    assert paths["None"] == paths["houlsby"] == paths["['attention', 'mlp']"]
    assert paths["pfeiffer"] == paths["['mlp']"]
    assert sorted(paths["pfeiffer"] + paths["['attention']"]) == sorted(paths["houlsby"])
    assert not {*paths["pfeiffer"]} & {*paths["['attention']"]}


def test_names_of_layers_and_patterns_work_everywhere():
    def where(name: str, target: Any) -> list[str]:
        model = adapted_to(name, target_modules=target)
        return [n for n, m in model.get_base_model().named_modules() if isinstance(m, Wrapper)]

    assert where("mlp", ["second"]) == ["second"]
    assert where("mlp", r"first") == ["first"]
    assert where("mlp", "all-linear") == ["first", "second"]
    assert where("gpt2", ["h.1.mlp.c_fc"]) == ["transformer.h.1.mlp.c_fc"]
    assert where("gpt2", r".*h\.0\.attn\.c_proj") == ["transformer.h.0.attn.c_proj"]
    mixed = where("gpt2", ["attention", "h.1.mlp.c_fc"])
    assert mixed == [f"transformer.h.{n}" for n in ("0.attn.c_proj", "1.attn.c_proj", "1.mlp.c_fc")]
    plain = nn.ModuleDict({"mlp": nn.Linear(3, 3)})
    assert isinstance(get_peft_model(plain, AdapterConfig(target_modules=["mlp"])).mlp, Wrapper)
