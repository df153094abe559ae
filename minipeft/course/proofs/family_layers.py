"""The proofs of lesson 09 that run layers: DoRA, replicated layers, the notes' convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ... import LoraConfig, get_peft_model
from ...lab.counting import count
from ...methods.dora import DoRALayer
from ...methods.lora import lora_parameters
from ...methods.lora_options.conv import LoRAConv
from ...methods.lora_options.replication import order_of
from ..claims import hold, proves


def random_factors(layer: Any) -> Any:
    """The layer with A and B at random, as if trained."""
    torch.manual_seed(0)
    for factor in (layer.lora_A, layer.lora_B):
        nn.init.normal_(factor)
    return layer


@proves("family-dora-parts")
@torch.no_grad()
def dora_parts() -> str:
    """The lengths of the folded rows are m, and their directions those of LoRA's V."""
    torch.manual_seed(0)
    frozen = nn.Linear(16, 8)
    layer = random_factors(DoRALayer(frozen, rank=2, lora_alpha=4))
    nn.init.uniform_(layer.lora_magnitude_vector, 1, 2)
    folded, _ = layer.fold(frozen.weight, None)
    v = frozen.weight + layer.delta_weight()
    lengths = float((folded.norm(dim=1) - layer.lora_magnitude_vector).abs().max())
    turned = float(1 - nn.functional.cosine_similarity(folded, v).min())
    hold(lengths < 1e-5 and turned < 1e-5, f"lengths {lengths}, directions {turned}")
    return "the folded rows have the lengths m and the directions of W + ΔW"


@proves("family-dora-low-rank")
def dora_low_rank() -> str:
    """What each trains at rank 1 beside c_attn."""
    lora, dora = (count("gpt2", LoraConfig(r=1, use_dora=d)).trainable // 12 for d in (False, True))
    hold((lora, dora) == (3_072, 5_376), f"{lora:,}, {dora:,}")
    hold(lora == lora_parameters(768, 2304, 1), f"{lora:,}")
    return f"r = 1: LoRA {lora:,}, DoRA {dora:,} a layer, as many as LoRA of rank {dora / lora:g}"


@proves("family-dora-linear")
@torch.no_grad()
def dora_elsewhere() -> str:
    """An embedding and two convolutions: merged equals unmerged."""
    layers: dict[nn.Module, Tensor] = {
        nn.Embedding(9, 6): torch.arange(9),
        nn.Conv1d(4, 6, 3): torch.randn(2, 4, 9),
        nn.Conv2d(4, 6, 3, stride=2): torch.randn(2, 4, 9, 9),
    }
    for layer, x in layers.items():
        model = get_peft_model(
            nn.Sequential(layer), LoraConfig(r=2, use_dora=True, target_modules=["0"])
        )
        (slot,) = model.base_model.slots().values()
        random_factors(slot.adapters["default"])
        beside = model(x)
        model.merge_adapter()
        same = torch.allclose(beside, model(x), atol=1e-3)
        hold(same, f"{type(layer).__name__}: merging changes the output")
    return f"trained and merged: {', '.join(type(layer).__name__ for layer in layers)}"


def flops(run: Any, x: Tensor) -> int:
    """Floating-point operations of one forward pass, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(x)
    return int(counter.get_total_flops())


@proves("family-dora-overhead")
def dora_overhead() -> str:
    """Operations for 16 tokens of a layer of 256 by 256, r = 8, and after merging."""
    x, found = torch.randn(16, 256), {"base": flops(nn.Linear(256, 256), torch.randn(16, 256))}
    for name in ("LoRA", "DoRA"):
        config = LoraConfig(r=8, use_dora=name == "DoRA", target_modules=["0"])
        model = get_peft_model(nn.Sequential(nn.Linear(256, 256)), config)
        found[name] = flops(model, x)
        model.merge_adapter()
        hold(flops(model, x) == found["base"], f"{name} merged is not the base")
    hold(found["DoRA"] > found["LoRA"] > found["base"], f"{found}")
    lora, dora = (found[name] / found["base"] for name in ("LoRA", "DoRA"))
    return f"operations: LoRA {lora:.2f}, DoRA {dora:.2f} times the base for 16 tokens, 1.00 merged"


@proves("family-replication-shared")
def replication_shared() -> str:
    """A GPT-2 of five layers, as it is and as seven."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {"vocab_size": 20, "n_embd": 16, "n_layer": 5, "n_head": 2}
    sizes |= {"bos_token_id": 0, "eos_token_id": 0}
    counts, weights = [], []
    for ranges in (None, [[0, 4], [2, 5]]):
        base: Any = GPT2LMHeadModel(GPT2Config(**sizes))
        model = get_peft_model(base, LoraConfig(r=2, layer_replication=ranges))
        trained, total = model.get_nb_trainable_parameters()
        counts.append((total - trained, trained))
        weights.append([h.attn.c_attn.base_layer.weight for h in base.transformer.h])
    (frozen, five), (same, seven) = counts
    hold(frozen == same and 5 * seven == 7 * five, f"{counts}")
    hold(weights[1][2] is weights[1][4], "layers 2 and 4 do not share their weight")
    return f"frozen {frozen:,} and {same:,}; LoRA {five:,} and {seven:,}"


@proves("family-replication-order")
def replication_order() -> str:
    """As the note counts."""
    order = order_of([[0, 4], [2, 5]])
    hold(order == [0, 1, 2, 3, 2, 3, 4], f"{order}")
    return " ".join(map(str, order))


# --- the convolution of 004:L113-122 -------------------------------------------------------------


@proves("family-conv-argument")
def conv_argument() -> str:
    """The note's third line."""
    try:
        nn.Conv2d(2, 6, conv_size=(1, 1))  # type: ignore[call-arg]
    except TypeError as error:
        said = str(error)
    else:
        said = ""
    hold("conv_size" in said, f"Conv2d says {said!r}")
    return "TypeError: unexpected keyword argument 'conv_size'"


def conv_and_lora(**options: Any) -> tuple[nn.Conv2d, Any, Tensor, Tensor]:
    """A convolution, a LoRA with random factors beside it, an image, the frozen output."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, **options)
    lora = random_factors(LoRAConv(conv, rank=2, lora_alpha=6))
    image = torch.randn(2, 4, 9, 9)
    return conv, lora, image, conv(image)


@proves("family-conv-forward")
@torch.no_grad()
def conv_forward() -> str:
    """The note's forward as it stands, and the formula as the folded kernel says."""

    class Written(nn.Module):
        """004:L115-120, with kernel_size for conv_size."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.lora_a = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x: Tensor) -> None:
            """Nothing."""
            self.layer(x) + self.lora_a()

    conv, lora, image, y = conv_and_lora()
    try:
        Written()(image)
        said = ""
    except TypeError as error:
        said = f"TypeError: {error}"
    hold("missing 1 required positional argument" in said, f"the note's forward says {said!r}")
    a = nn.functional.conv2d(image, lora.lora_A)
    want = y + 3 * nn.functional.conv2d(a, lora.lora_B)
    hold(torch.allclose(lora(image, y), want, atol=1e-3), "not y + s · B * (A * x)")
    kernel = conv.weight + lora.delta_weight().view_as(conv.weight)
    folded = nn.functional.conv2d(image, kernel, conv.bias)
    hold(torch.allclose(folded, want, atol=1e-3), "the folded kernel gives something else")
    return f"as written {said.split('.')[-1]}; y + s · B * (A * x) folds into one kernel"


@proves("family-conv-bias")
@torch.no_grad()
def conv_bias() -> str:
    """A LoRA with biases, folded as if it had none."""
    torch.manual_seed(0)
    a, b, image = nn.Conv2d(4, 2, 3), nn.Conv2d(2, 6, 1), torch.randn(2, 4, 9, 9)
    delta = (b.weight.flatten(1) @ a.weight.flatten(1)).view(6, 4, 3, 3)
    update = b(a(image))
    off = float((update - nn.functional.conv2d(image, delta)).norm() / update.norm())
    hold(off > 0.1, f"off by {off}")
    extra = sum(p.numel() for p in (a.bias, b.bias) if p is not None)
    return f"{extra} numbers that ΔW does not hold: the folded update is off by {off:.0%}"


@proves("family-conv-start")
@torch.no_grad()
def conv_start() -> str:
    """The update before the first step, as PyTorch makes lora_b and as derived."""
    torch.manual_seed(0)
    conv, image = nn.Conv2d(64, 128, 3), torch.randn(2, 64, 9, 9)
    y = conv(image)
    written = nn.Conv2d(8, 128, 1)(nn.Conv2d(64, 8, 3)(image))
    share = float(written.norm() / y.norm())
    hold(share > 0.05, f"{share}")
    hold(torch.equal(LoRAConv(conv, rank=8)(image, y), y), "ours changes the output")
    return f"as written the update is {share:.0%} of the output at the start, as derived 0 %"


@proves("family-conv-stride")
@torch.no_grad()
def conv_stride() -> str:
    """Every option reaches A; and a convolution that was told size and stride only."""
    options: list[dict[str, Any]] = [
        {"stride": 2},
        {"padding": 1},
        {"dilation": 2},
        {"groups": 2},
        {"padding": 1, "padding_mode": "circular"},
    ]
    for given in options:
        conv, lora, image, y = conv_and_lora(**given)
        kernel = conv.weight + lora.delta_weight().view_as(conv.weight)
        folded = conv._conv_forward(image, kernel, conv.bias)
        hold(torch.allclose(lora(image, y), folded, atol=1e-3), f"{given}: does not fold")
    sizes = [tuple(nn.Conv2d(4, 6, 3, dilation=d)(image).shape[2:]) for d in (1, 2)]
    hold(sizes == [(7, 7), (5, 5)], f"{sizes}")
    return (
        f"folded exactly with {len(options)} options; without dilation {sizes[0]} meets {sizes[1]}"
    )
