"""The proofs of lesson 04: the notes' class as it is written, its place, its size and its cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ... import get_peft_model
from ...lab.counting import parameters, training_bytes
from ...methods.adapter import Adapter, AdapterConfig, adapter_parameters
from ...tuner.slots import Wrapper
from ..claims import hold, proves
from ..oracle import import_peft

# Worked out from published dimensions, as in the proofs of lessons 01 and 08.
GPT2, BERT, LLAMA = 124_439_808, 109_482_240, 6_738_415_616
BASE = 24 * adapter_parameters(768, 64)  # 12 blocks of width 768 with two sites each
LARGE = 64 * adapter_parameters(4096, 64)  # 32 blocks of width 4096


class NotesAdapter(nn.Module):
    """003:L243-263, comments left out."""

    def __init__(self, hidden_size: int, adapter_size: int = 64, dropout: float = 0.1):
        super().__init__()
        self.down_project = nn.Linear(hidden_size, adapter_size)
        self.activation = nn.GELU()
        self.up_project = nn.Linear(adapter_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.down_project.weight)
        nn.init.xavier_uniform_(self.up_project.weight)
        nn.init.zeros_(self.down_project.bias)
        nn.init.zeros_(self.up_project.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x + W_up dropout(GELU(W_down x + b_down)) + b_up."""
        residual = x
        x = self.down_project(x)
        x = self.activation(x)
        x = self.dropout(x)
        x = self.up_project(x)
        return x + residual


@torch.no_grad()
def moved(adapter: nn.Module, width: int) -> float:
    """‖h - x‖ / ‖x‖ for 256 normal x."""
    x = torch.randn(256, width)
    return float((adapter.eval()(x) - x).norm() / x.norm())


@proves("adapter-formula")
def formula() -> str:
    """The note's class against the formula, and against ours with the same seed."""
    torch.manual_seed(0)
    notes, x = NotesAdapter(24, 6).eval(), torch.randn(5, 24)
    down, up = notes.down_project, notes.up_project
    z = nn.functional.gelu(x @ down.weight.T + down.bias)
    by_hand = x + z @ up.weight.T + up.bias
    hold(torch.allclose(notes(x), by_hand, atol=1e-5), "the formula")
    torch.manual_seed(0)
    ours = Adapter(24, 6, init="xavier").eval()
    hold(torch.equal(notes(x), ours(x)), "minipeft's Adapter gives something else")
    return "the same as minipeft's with init='xavier', to the bit"


def gpt2(layers: int) -> Any:
    """A small GPT-2 with random weights."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=layers, n_embd=16, n_head=2, vocab_size=20, bos_token_id=None, eos_token_id=None
    )
    return transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]


@proves("adapter-place")
def place() -> str:
    """Every site stands in a block, and the stream passes none of them."""
    torch.manual_seed(0)
    model = get_peft_model(gpt2(12), AdapterConfig(adapter_dim=4, init="xavier")).eval()
    sites = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, Wrapper)}
    ends = {name.partition(".h.")[2].partition(".")[2] for name in sites}
    hold((len(sites), ends) == (24, {"attn.c_proj", "mlp.c_proj"}), f"{len(sites)} at {ends}")
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Any) -> None:
        seen[module] = given[0], out[0] if isinstance(out, tuple) else out

    block = model.get_base_model().get_submodule("transformer.h.5")
    inside = [m for m in block.modules() if isinstance(m, Wrapper)]
    for module in (block, *inside):
        module.register_forward_hook(keep)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    entering, leaving = seen[block]
    added = seen[inside[0]][1] + seen[inside[1]][1]
    hold(torch.allclose(leaving, entering + added, atol=1e-5), "the block is not the sum")
    return "GPT-2: 24 sites in 12 blocks; out = in + what the block's two adapters give"


@proves("adapter-layernorm")
def layernorm() -> str:
    """What is in the note's class, and what a norm would add."""
    notes = NotesAdapter(768, 64)
    norms = [m for m in notes.modules() if isinstance(m, nn.LayerNorm)]
    hold(not norms, f"{norms}")
    held = parameters(notes)
    hold(held == adapter_parameters(768, 64), f"{held:,}")
    extra = parameters(nn.LayerNorm(768))
    return f"no norm in the class, {held:,} parameters; a norm would add {extra:,}"


@proves("adapter-start")
def start() -> str:
    """How far the note's start moves its input, at two widths."""
    torch.manual_seed(0)
    found = [moved(NotesAdapter(width), width) for width in (768, 4096)]
    # one draw of weights and inputs: seeds differ by about 0.005
    hold(abs(found[0] - 0.3605) < 0.02 and abs(found[1] - 0.167) < 0.01, f"{found}")
    ours = moved(Adapter(768), 768)
    hold(ours == 0, f"ours moves by {ours}")
    return f"by {found[0]:.1%} at d = 768, {found[1]:.1%} at d = 4096; minipeft's by 0"


@proves("adapter-residual")
@torch.no_grad()
def residual() -> str:
    """24 fresh adapters of the note, one behind the other."""
    torch.manual_seed(0)
    x = torch.randn(64, 768)
    h = x
    for _ in range(24):
        h = NotesAdapter(768).eval()(h)
    alike = float(torch.cosine_similarity(h, x).mean())
    hold(abs(alike - 0.22) < 0.05, f"{alike}")
    return f"cosine of what goes in and what comes out: {alike:.2f}"


@proves("adapter-config")
def config() -> str:
    """The note's arguments in minipeft; in peft there is no such name."""
    names = ["attention", "mlp"]
    ours = AdapterConfig(
        adapter_dim=64, hidden_act="gelu", adapter_dropout=0.1, target_modules=names
    )
    hold(ours == AdapterConfig(), "the note's arguments are not minipeft's defaults")
    peft = import_peft()
    if peft is None:
        return "minipeft's AdapterConfig takes the note's arguments; peft is not installed here"
    hold(not hasattr(peft, "AdapterConfig"), "peft has an AdapterConfig")
    return f"peft {peft.__version__} has no AdapterConfig; minipeft's takes the note's arguments"


@proves("adapter-peft")
def in_peft() -> str:
    """The methods of peft by name."""
    peft = import_peft()
    if peft is None:
        return "not measured: peft is not installed here"
    named = [kind.value for kind in peft.PeftType if "ADAPT" in kind.value]
    hold(named == ["ADAPTION_PROMPT"], f"{named}")
    return (
        f"of {len(peft.PeftType)} methods in peft {peft.__version__} only {named[0]} has the name"
    )


@proves("adapter-share")
def share() -> str:
    """m = 64 at both sites of each block, of the base model's parameters."""
    hold((BASE, LARGE) == (2_379_264, 33_820_672), f"{BASE:,}, {LARGE:,}")
    found = [100 * n / base for n, base in ((BASE, GPT2), (BASE, BERT), (LARGE, LLAMA))]
    hold([f"{s:.3f}" for s in found] == ["1.912", "2.173", "0.502"], f"{found}")
    most = 64 * adapter_parameters(4096, 128), 64 * adapter_parameters(4096, 129)
    hold(most[0] < 0.01 * LLAMA <= most[1], f"{most}")
    return f"GPT-2 {found[0]:.3f} %, BERT-base {found[1]:.3f} %, Llama-2-7B {found[2]:.3f} %"


@proves("adapter-memory")
def memory() -> str:
    """Frozen 16-bit weights and 16 bytes for each trained parameter."""
    part = sum(training_bytes(LLAMA, LARGE).values())
    whole = sum(training_bytes(0, LLAMA).values())
    hold(f"{part / whole:.3f}" == "0.130", f"{part / whole}")
    return f"7B: {part / 1e9:.1f} of {whole / 1e9:.1f} GB, {part / whole:.1%}, before activations"


@proves("adapter-speed")
def speed() -> str:
    """Multiply-adds of a training step on two blocks of Llama-2-7B, without the head."""
    import transformers

    def step(adapted: bool) -> int:
        with torch.device("meta"):
            dims = transformers.LlamaConfig(num_hidden_layers=2, vocab_size=8)
            model: nn.Module = transformers.AutoModel.from_config(dims)  # type: ignore[no-untyped-call]
        if adapted:
            model = get_peft_model(model, AdapterConfig())
        x = torch.empty(1, 128, 4096, device="meta", requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            model(inputs_embeds=x).last_hidden_state.sum().backward()
        return int(counter.get_total_flops())

    ratio = step(False) / step(True)
    hold(1.4 < ratio < 1.5, f"{ratio}")
    return f"{ratio:.2f} times fewer multiply-adds in a step"
