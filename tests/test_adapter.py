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
from transformers.activations import ACT2FN

from minipeft import Adapter, AdapterConfig, PeftModel, get_peft_model
from minipeft.core import Wrapper
from minipeft.families import SUBLAYERS
from minipeft.methods.adapter import ACTIVATIONS

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


# --- the note's class ----------------------------------------------------------------------------


class NoteAdapter(nn.Module):
    """As written in the note, 003_2a78d11827cb1020.txt, lines 242-262."""

    def __init__(self, hidden_size, adapter_size=64, dropout=0.1):
        super().__init__()
        self.down_project = nn.Linear(hidden_size, adapter_size)
        self.activation = nn.GELU()
        self.up_project = nn.Linear(adapter_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)

    def forward(self, x):
        residual = x
        x = self.down_project(x)
        x = self.activation(x)
        x = self.dropout(x)
        x = self.up_project(x)
        return x + residual


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_note_s_class_with_the_same_seed(training: bool):
    torch.manual_seed(4)
    note = NoteAdapter(24, 6).train(training)
    torch.manual_seed(4)
    ours = Adapter(24, 6, init="xavier").train(training)
    assert ours.state_dict().keys() == note.state_dict().keys()
    x = torch.randn(3, 5, 24)
    answers = []
    for module in (note, ours):
        torch.manual_seed(5)  # the same entries dropped
        answers.append(module(x))
        answers[-1].square().sum().backward()
    assert torch.equal(*answers)
    for a, b in zip(note.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_by_hand():
    adapter = Adapter(2, 1, hidden_act="relu")
    with torch.no_grad():
        adapter.down_project.weight.copy_(torch.tensor([[1.0, -1.0]]))
        adapter.down_project.bias.fill_(0.5)
        adapter.up_project.weight.copy_(torch.tensor([[2.0], [3.0]]))
        adapter.up_project.bias.copy_(torch.tensor([0.0, 1.0]))
    adapter.eval()
    x = torch.tensor([[4.0, 1.0], [1.0, 4.0]])
    # σ(4 - 1 + ½) = 3.5: (4 + 7, 1 + 10.5 + 1); σ(1 - 4 + ½) = 0: (1, 4 + 1)
    assert adapter(x).tolist() == [[11.0, 12.5], [1.0, 5.0]]
    assert torch.equal(adapter.after(torch.zeros(0), x), adapter(x))
    assert torch.equal(adapter.before(x), x)


def test_how_far_the_start_moves_the_output():
    x = torch.randn(512, 768)
    ours, note = Adapter(768).eval(), Adapter(768, init="xavier").eval()
    assert torch.equal(ours(x), x)
    moved = ((note(x) - x).norm() / x.norm()).item()
    # By variances: 768·2/832 = 1.846 of W_down x; E[σ²] = 0.845 there, integrated below; times
    # 64·2/832 of W_up: √0.1300 = 0.3605.
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64) * (768 * 2 / 832) ** 0.5
    density = torch.exp(-(z**2) / (2 * 768 * 2 / 832))
    square = (F.gelu(z) ** 2 * density).sum() / density.sum()
    expected = (square * 64 * 2 / 832).sqrt().item()
    assert expected == pytest.approx(0.3605, abs=1e-4)
    # one draw of the weights and of x: ten seeds gave 0.3566 to 0.3639
    assert moved == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_the_one_that_its_name_means(name: str):
    x = torch.linspace(-4, 4, 41)
    known = ACT2FN[name](x) if name in ACT2FN else getattr(F, name)(x)
    assert torch.allclose(ACTIVATIONS[name]()(x), known, atol=1e-6)  # gelu_new: other order
    adapter = Adapter(3, 2, hidden_act=name)
    adapter(torch.randn(4, 3)).sum().backward()
    assert adapter.up_project.weight.grad.abs().max() > 0


def test_dropout_acts_in_training_only_and_inside_the_bottleneck():
    adapter = Adapter(8, 4, dropout=0.5, init="xavier")
    x = torch.randn(64, 8)
    assert not torch.equal(adapter(x), adapter(x))
    z = adapter.activation(adapter.down_project(x))
    torch.manual_seed(3)
    dropped = F.dropout(z, 0.5)
    torch.manual_seed(3)
    assert torch.equal(adapter(x), x + adapter.up_project(dropped))
    adapter.eval()
    assert torch.equal(adapter(x), x + adapter.up_project(z))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_dtypes(dtype: torch.dtype):
    model = adapted_to("mlp", target_modules=["first"])
    config = AdapterConfig(adapter_dim=4, target_modules=["first"])
    half = get_peft_model(tiny("mlp", dtype), config)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    method = half.first.adapters["default"].eval()
    assert {p.dtype for p in method.parameters()} == {wanted}
    method.load_state_dict(model.first.adapters["default"].state_dict())
    y = torch.randn(3, 8).to(dtype)
    exact = method.double()(y.double())
    assert method.to(wanted)(y).dtype == dtype
    # one rounding of an exact number: half a unit in the last place, and float32's error on top
    bound = 0.51 * torch.finfo(dtype).eps * exact.abs() + 1e-6
    assert ((method(y).double() - exact).abs() <= bound).all()


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
