"""BitFit: what is trained beside the biases does what training the biases does.

The oracle is autograd on the model's own biases: a bias that trains in place and a change that
trains beside it have the same gradients, so they walk the same way.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import ALL_FAMILIES, inputs, output, shake, tiny
from torch import Tensor, nn

from minipeft import BitFit, BitFitConfig, get_peft_model
from minipeft.layers.families import qkv_rows
from minipeft.tuner.slots import Wrapper

BARE = {"llama", "mistral", "qwen3", "t5"}  # families without biases
WITH_BIASES = [name for name in ALL_FAMILIES if name not in BARE]


def own_biases(model: nn.Module) -> dict[str, nn.Parameter]:
    """A plain model's biases, by dotted name."""
    return {n: p for n, p in model.named_parameters() if n.endswith("bias")}


def bitfit(name: str, **options: Any) -> Any:
    """A tiny model with a BitFit that changes its output."""
    model = get_peft_model(tiny(name), BitFitConfig(**options))
    shake(model)
    return model


def loss_of(model: nn.Module, name: str) -> Tensor:
    """The loss on the tiny batch; the mean of the squares for a model without one."""
    out = model(**inputs(name))
    return out.square().mean() if isinstance(out, Tensor) else out.loss


def deltas(model: nn.Module) -> dict[str, Tensor]:
    """δb in the shape of the bias, by the name that the bias has in the plain model."""
    wrappers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, Wrapper)}
    return {f"{n}.bias": wrapper.adapters["default"].delta() for n, wrapper in wrappers.items()}


# --- alone ---------------------------------------------------------------------------------------


def test_a_layer_worked_by_hand():
    layer = BitFit(2)
    assert layer(torch.tensor([1.0, 2.0])).tolist() == [1, 2]  # zero at the start
    layer.delta_bias.data = torch.tensor([0.5, -1.0])
    assert layer(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [[1.5, 1], [3.5, 3]]
    weight, bias = layer.fold(torch.eye(2), torch.tensor([10.0, 20.0]))
    assert bias.tolist() == [10.5, 19]
    assert torch.equal(weight, torch.eye(2))


def test_channels_and_rows_worked_by_hand():
    image = torch.zeros(1, 2, 1, 3)  # (batch, channels, height, width)
    layer = BitFit(2, axis=1)
    layer.delta_bias.data = torch.tensor([1.0, 2.0])
    assert layer(image).tolist() == [[[[1, 1, 1]], [[2, 2, 2]]]]
    layer = BitFit(3, rows=torch.tensor([0, 2]))
    layer.delta_bias.data = torch.tensor([1.0, 2.0])
    assert layer(torch.zeros(3)).tolist() == [1, 0, 2]


def test_half_precision_outputs_keep_their_dtype_and_the_change_is_float32():
    model = get_peft_model(tiny("gpt2", torch.bfloat16), BitFitConfig())
    shake(model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert output(model, "gpt2").dtype == torch.bfloat16


# --- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_BIASES)
def test_the_gradient_is_that_of_the_models_own_bias(name: str):
    plain, model = tiny(name), get_peft_model(tiny(name), BitFitConfig())
    assert torch.equal(output(model, name), output(plain, name))
    loss_of(plain, name).backward()
    loss_of(model, name).backward()
    theirs, ours = own_biases(plain), deltas(model)
    assert ours.keys() == theirs.keys()
    methods = [m for m in model.modules() if isinstance(m, BitFit)]
    # float32, sums in another order; of the model's largest gradient, since K's biases have none
    # but rounding (softmax does not see what moves all scores alike): measured 1.1e-7
    bound = 5e-7 * max(float(bias.grad.abs().max()) for bias in theirs.values())
    for key, method in zip(ours, methods, strict=True):
        assert torch.allclose(method.delta_bias.grad, theirs[key].grad, rtol=0, atol=bound), key


@pytest.mark.parametrize("name", WITH_BIASES)
def test_training_beside_equals_training_in_place(name: str):
    plain, model = tiny(name), get_peft_model(tiny(name), BitFitConfig())
    plain.requires_grad_(False)
    for bias in own_biases(plain).values():
        bias.requires_grad_(True)
    losses: list[list[float]] = []
    for net in (plain, model):
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.05)
        losses.append([])
        for _ in range(5):
            loss = loss_of(net, name)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    # float32, five steps: measured 2.8e-7 for losses, 1.1e-6 for logits up to 4, 1.2e-7 for biases
    assert losses[0] == pytest.approx(losses[1], rel=1.2e-6)
    assert losses[0][-1] < losses[0][0] - 0.02
    assert torch.allclose(output(model, name), output(plain, name), rtol=0, atol=5e-6)
    started, ours = own_biases(tiny(name)), deltas(model)
    for key, bias in own_biases(plain).items():
        assert torch.allclose(started[key] + ours[key], bias, rtol=0, atol=5e-7), key


# --- what is chosen ------------------------------------------------------------------------------


def test_t5s_table_of_relative_positions_is_no_bias():
    names = [n for n, _ in tiny("t5").named_parameters() if "bias" in n]
    assert names
    assert all(n.endswith("relative_attention_bias.weight") for n in names)


Q_ROWS = {  # of the tiny models: 2 heads of 8
    "gpt2": list(range(16)),
    "bloom": [*range(8), *range(24, 32)],
    "gpt_neox": [*range(8), *range(24, 32)],
}


@pytest.mark.parametrize("name", sorted(Q_ROWS))
def test_the_small_variant_of_a_fused_projection_trains_the_queries_only(name: str):
    model = bitfit(name, biases="small")
    assert {n.rsplit(".", 2)[-2] for n in deltas(model)} == {
        "gpt2": {"c_attn", "c_fc"},
    }.get(name, {"query_key_value", "dense_h_to_4h"})
    fused = [d for n, d in deltas(model).items() if "c_attn" in n or "query_key_value" in n]
    assert len(fused) == 2
    for delta in fused:
        assert delta.nonzero().flatten().tolist() == Q_ROWS[name]
    assert qkv_rows(tiny(name), 48)["q"].tolist() == Q_ROWS[name]


@pytest.mark.parametrize("name", sorted(Q_ROWS))
def test_those_rows_are_the_queries(name: str):
    """A change of K's biases alone moves all scores of a query alike: the softmax cancels it."""
    model = tiny(name)
    before = output(model, name)
    layer = next(m for n, m in model.named_modules() if n.endswith(("c_attn", "query_key_value")))
    moved = {}
    for part, rows in qkv_rows(model, 48).items():
        layer.bias.data[rows] += 1
        moved[part] = float((output(model, name) - before).abs().max())
        layer.bias.data[rows] -= 1
    if name == "gpt_neox":  # rotated after the bias: K's is not cancelled
        assert min(moved.values()) > 1e-3
    else:
        assert moved["k"] < 1e-5 < 1e-3 < min(moved["q"], moved["v"])


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("bert", {"query", "intermediate.dense"}),
        ("opt", {"q_proj", "layers.0.fc1", "layers.1.fc1"}),
        ("vit", {"q_proj", "mlp.fc1"}),
        ("qwen2", {"q_proj"}),  # its up_proj has no bias
    ],
)
def test_the_small_variant_elsewhere(name: str, ends: set[str]):
    found = [n.removesuffix(".bias") for n in deltas(bitfit(name, biases="small"))]
    assert all(n.endswith(tuple(ends)) for n in found)
    assert len(found) == (2 if name == "qwen2" else 4)


def test_gpt2s_keys_and_values_of_an_encoder_are_no_queries():
    config = copy.deepcopy(tiny("gpt2").config)
    config.add_cross_attention = True
    model = get_peft_model(type(tiny("gpt2"))(config), BitFitConfig(biases="small"))
    found = {n.split(".", 3)[3]: tuple(d.shape) for n, d in deltas(model).items()}
    # crossattention.c_attn is K and V of what the encoder said, 2·d wide
    assert found == {
        "attn.c_attn.bias": (48,),
        "crossattention.q_attn.bias": (16,),
        "mlp.c_fc.bias": (64,),
    }


def test_target_modules_restrict():
    assert list(deltas(bitfit("gpt2", target_modules=["c_attn", "h.1.ln_1"]))) == [
        "transformer.h.0.attn.c_attn.bias",
        "transformer.h.1.ln_1.bias",
        "transformer.h.1.attn.c_attn.bias",
    ]
    # a pattern may match what has no bias as well: the blocks, their dropouts
    found = deltas(bitfit("gpt2", target_modules=r".*\.h\.0.*"))
    assert len(found) == 6
    assert all(".h.0." in n for n in found)
    linear = deltas(bitfit("bert", target_modules="all-linear"))
    assert len(linear) == 2 * 6 + 2  # the pooler and, without a task, the classifier
    assert not any("LayerNorm" in n for n in linear)
    small = deltas(bitfit("gpt2", target_modules=["h.1.attn.c_attn"], biases="small"))
    assert list(small) == ["transformer.h.1.attn.c_attn.bias"]
