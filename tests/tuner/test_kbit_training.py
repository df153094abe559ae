"""Training beside packed layers: preparing, checkpointing, CPUs that repack, and 8-bit AdamW."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import adapted, bits, inputs, output, state_of, tiny
from kbit_models import KINDS, loaded, lora_on, packed_by_bnb, quantized, quiet
from torch import Tensor, nn

from minipeft import LoraConfig, get_peft_model, prepare_model_for_kbit_training, quantize_model
from minipeft.checks.errors import ConfigError, ConfigTypeError, MinipeftWarning, StateError
from minipeft.lab.tasks import load_task
from minipeft.lab.training import adamw, fit, loss_on
from minipeft.lab.zoo import load_base
from minipeft.layers.quant import packed

# --- preparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "opt"])
def test_what_is_cast_and_what_is_frozen(name: str, kind: str, dtype: torch.dtype):
    model = quantized(name, kind, dtype)
    before = {n: p.clone() for n, p in model.named_parameters()}
    layers = {n: m for n, m in model.named_modules() if packed.kind(m)}
    codes = {n: b for n, b in model.state_dict().items() if not b.is_floating_point()}
    ids = {n: id(p) for n, p in model.named_parameters()}
    assert prepare_model_for_kbit_training(model) is model
    assert not any(p.requires_grad for p in model.parameters())
    for n, p in model.named_parameters():
        owner = n.rpartition(".")[0]
        if owner in layers and kind != "ours":  # bitsandbytes casts its biases to the input's dtype
            assert bits(p) == bits(before[n])
        else:
            assert p.dtype == torch.float32
            assert torch.equal(p, before[n].float())
        assert id(p) == ids[n]  # tied weights stay tied
    now = model.state_dict()
    assert all(bits(now[n]) == bits(b) for n, b in codes.items())
    assert model.config.use_cache is False
    assert model.is_gradient_checkpointing
    assert output(model, name).isfinite().all()


@pytest.mark.parametrize("n", [4, 8])
def test_peft_prepares_the_same(peft: Any, tmp_path: Path, n: int):
    ours, theirs = (loaded(tmp_path / "base", n).bfloat16() for _ in range(2))
    prepare_model_for_kbit_training(ours)
    with quiet():
        peft.prepare_model_for_kbit_training(
            theirs, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    a, b = (
        {n: (p.dtype, p.requires_grad, bits(p)) for n, p in model.named_parameters()}
        for model in (ours, theirs)
    )
    assert a == b
    assert {d for d, *_ in a.values()} == {torch.float32, torch.uint8 if n == 4 else torch.int8}
    assert ours.is_gradient_checkpointing is theirs.is_gradient_checkpointing is True


@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("kind", ["ours", "4bit"])
@pytest.mark.parametrize("name", ["llama", "bloom"])  # without dropout
@pytest.mark.filterwarnings("ignore:torch.utils.checkpoint")
def test_checkpointing_computes_twice_and_gives_the_same_gradients(
    name: str, kind: str, reentrant: bool | None
):
    results: list[list[Tensor]] = []
    calls: list[list[str]] = []
    given = None if reentrant is None else {"use_reentrant": reentrant}
    for on in (False, True):
        base = prepare_model_for_kbit_training(quantized(name, kind), on, given)
        assert base.is_gradient_checkpointing is on
        assert base.config.use_cache is not on
        model = lora_on(base).train()
        seen: list[str] = []
        for path, module in model.named_modules():
            if path.endswith(("mlp.up_proj", "mlp.dense_h_to_4h")):
                module.register_forward_hook(lambda *_, path=path, seen=seen: seen.append(path))
        model(**inputs(name)).loss.backward()
        calls.append(seen)
        results.append([p.grad for n, p in model.named_parameters() if "lora_" in n])
    assert (len(calls[0]), len(calls[1])) == (2, 4)
    assert len(results[0]) >= 16
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(*results, strict=True))


def test_what_checkpointing_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    kind = type(tiny("llama"))
    ask = "activation_checkpointing_enable"
    ask = ask if hasattr(kind, ask) else "gradient_checkpointing_enable"
    monkeypatch.setattr(kind, ask, lambda self, options: asked.append(dict(options)))
    monkeypatch.setattr(kind, "enable_input_require_grads", lambda self: asked.append("inputs"))
    more = {"use_reentrant": True, "preserve_rng_state": False}
    for given in (None, {"preserve_rng_state": False}, more):
        prepare_model_for_kbit_training(quantized("llama", "ours"), True, given)
    usual = {"use_reentrant": False}  # with reentrant ones, frozen embeddings stop the gradient
    assert asked == [usual, {**usual, "preserve_rng_state": False}, "inputs", more]


def test_what_cannot_be_prepared_is_refused_and_not_changed():
    mlp, plain, wrapped = tiny("mlp"), tiny("llama", torch.bfloat16), adapted("gpt2")
    quantize_model(mlp)
    for model, error, said in (
        (mlp, ConfigTypeError, "MLP cannot checkpoint .* give use_gradient_checkpointing=False"),
        (plain, StateError, r"no layer of this model is quantized; quantize_model\(model\) first"),
        (wrapped, StateError, "this model has adapters already"),
    ):
        before = state_of(model)
        with pytest.raises(error, match=said):
            prepare_model_for_kbit_training(model)
        assert state_of(model) == before
    with pytest.raises(ConfigTypeError, match=r"must be the model \(an nn.Module\), got str"):
        prepare_model_for_kbit_training("llama")
    prepare_model_for_kbit_training(mlp.half(), use_gradient_checkpointing=False)
    assert mlp.norm.weight.dtype == mlp.first.bias.dtype == torch.float32


# --- bitsandbytes on CPUs that repack ------------------------------------------------------------


def repacking() -> bool:
    """Whether bitsandbytes repacks W in eval mode on this CPU."""
    bnb = pytest.importorskip("bitsandbytes")
    return bool(bnb.nn.Linear4bit(64, 64).support_avx512bf16_for_cpu)


def two_layers() -> Any:
    """Wide enough to be repacked."""
    torch.manual_seed(5)
    pair = [packed_by_bnb(torch.randn(64, 64) / 8, torch.zeros(64), 4) for _ in range(2)]
    return nn.Sequential(*pair)


@pytest.mark.parametrize("targets", [["0"], ["0", "1"]], ids=str)
def test_an_eval_pass_does_not_end_training(targets: list[str]):
    """Layer 1 matters also where it has no adapter: the gradient of 0's comes through it."""
    model, x = get_peft_model(two_layers(), LoraConfig(target_modules=targets)), torch.randn(3, 64)

    def step() -> list[Tensor]:
        model.train().zero_grad()
        model(x).square().sum().backward()
        return [p.grad.clone() for n, p in model.named_parameters() if "lora_B" in n]

    first = step()
    with torch.no_grad():
        assert torch.equal(model.eval()(x), model.train()(x))
    again = step()
    assert len(first) == len(targets)
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("way", ["adapter", "prepare", "read"])
def test_layers_that_were_repacked_before_are_turned_round(way: str):
    if not repacking():
        pytest.skip("bitsandbytes repacks on CPUs with AVX512-BF16 only")
    base, x = two_layers().eval(), torch.randn(3, 64)
    expected = two_layers().train()(x)
    with torch.no_grad():
        base(x)
    assert base[0].weight.quant_state.packing_format_for_cpu
    ways: dict[str, Any] = {
        "adapter": lambda: get_peft_model(base, LoraConfig(r=2, target_modules=["0"])),
        "prepare": lambda: prepare_model_for_kbit_training(base, use_gradient_checkpointing=False),
        "read": lambda: [packed.dequantized(base[i]) for i in range(2)],
    }
    with pytest.warns(MinipeftWarning, match="Linear4bit layers .* load the model again") as caught:
        ways[way]()
    ours = [str(w.message) for w in caught if issubclass(w.category, MinipeftWarning)]
    assert ours[0].startswith("1 Linear4bit" if way == "read" else "2 Linear4bit")
    assert len(ours) == (2 if way == "read" else 1)
    y = base.train()(x.requires_grad_())
    y.square().sum().backward()
    assert x.grad.abs().max() > 0
    # scales in bfloat16: half of 2⁻⁸ of each weight
    assert 0 < (y - expected).abs().max() < 2**-7 * expected.abs().max()
    with torch.no_grad():
        base.eval()(x.detach())
    assert not base[1].weight.quant_state.packing_format_for_cpu


# --- the loop, with bitsandbytes' optimizer ------------------------------------------------------


def test_the_optimizer_by_its_name(monkeypatch: pytest.MonkeyPatch):
    bnb = pytest.importorskip("bitsandbytes")
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert adamw("adamw", cpu) is adamw("adamw", gpu) is torch.optim.AdamW
    assert adamw("paged_adamw_8bit", gpu) is bnb.optim.PagedAdamW8bit
    assert adamw("paged_adamw_8bit", cpu) is bnb.optim.AdamW8bit  # nothing to page
    model, tokenizer = load_base("tiny-gpt2")
    before, rows = state_of(model), load_task("mood", train=4, validation=1, test=1)["train"]
    for wrong in ("adamw_8bit", "", None, torch.optim.AdamW):
        with pytest.raises(ConfigError, match="optim must be 'adamw' or 'paged_adamw_8bit', got"):
            fit(model, tokenizer, rows, steps=1, optim=wrong, progress=False)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="not installed: pip install bitsandbytes"):
        fit(model, tokenizer, rows, steps=1, optim="paged_adamw_8bit", progress=False)
    assert state_of(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "paged_adamw_8bit"])
def test_qlora_learns(optim: str):
    pytest.importorskip("bitsandbytes")
    model, tokenizer = load_base("tiny-gpt2")
    data = load_task("mood", train=64, validation=1, test=20)
    report = quantize_model(model)
    frozen = {n: bits(b) for n, b in model.named_buffers()}
    adapter = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))
    assert max(p.numel() for p in adapter.parameters() if p.requires_grad) >= 4096  # in 8 bits
    before = loss_on(adapter, tokenizer, data["test"])
    history = fit(
        adapter, tokenizer, data["train"], steps=25, batch_size=8, progress=False, optim=optim
    )
    assert len(history.losses) == 25
    assert loss_on(adapter, tokenizer, data["test"]) < before - 1.3  # measured 2.7, for both
    held = {n: bits(b) for n, b in adapter.unload().named_buffers()}
    assert held == frozen
    assert len(report.layers) > 4
