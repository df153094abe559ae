"""PyTorch's own encoder layer, which in eval mode computes past its parts if nothing holds it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import shake
from torch import nn

from minipeft import BitFitConfig, LoraConfig, get_peft_model
from minipeft.checks.errors import StateError

CONFIGS = [
    LoraConfig(r=2, target_modules=["linear1"]),
    LoraConfig(r=2, target_modules=["linear2"], use_dora=True),
    BitFitConfig(target_modules=["linear1", "norm1"]),
]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_the_answer_in_eval_mode_is_that_in_training_mode(config: Any, nested: bool, padded: bool):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    base = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
    before, x = copy.deepcopy(base), torch.randn(2, 3, 8)
    pad = torch.tensor([[False, False, True], [False, False, False]])
    more = {"src_key_padding_mask": pad} if padded else {}
    read = ~pad if padded else torch.ones_like(pad).bool()
    model = get_peft_model(base, config)
    shake(model)
    expected = model(x, **more)[read]
    if nested and padded:
        with (
            torch.no_grad(),
            pytest.raises(StateError, match="set use_nested_tensor = False on it"),
        ):
            model.eval()(x, **more)
        base.use_nested_tensor = False
    with torch.no_grad():
        found = model.eval()(x, **more)[read]
        plain = before.eval()(x, **more)[read]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert model.unload() is base
    base.use_nested_tensor = nested
    assert not any(module._forward_pre_hooks for module in base.modules())
    with torch.no_grad():
        assert torch.equal(base.eval()(x, **more)[read], plain)
