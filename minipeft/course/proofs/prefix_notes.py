"""The proofs of lesson 07 on the note's class `PTuningV2`, as it is written."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...methods.p_tuning_v2 import PTuningV2, PTuningV2Config
from ...model import get_peft_model
from ..claims import hold, proves
from .prefix import LAYERS, WIDTH, size, tiny_gpt2


class NotesPTuningV2(nn.Module):
    """003:L344-373, comments left out."""

    def __init__(self, num_layers: int, num_tokens: int, hidden_size: int):
        super().__init__()
        self.prompt_embeddings = nn.ParameterList(
            [nn.Parameter(torch.randn(num_tokens, hidden_size) * 0.01) for _ in range(num_layers)]
        )
        self.prompt_encoder = nn.Sequential(
            nn.Linear(hidden_size, hidden_size // 2),
            nn.Tanh(),
            nn.Linear(hidden_size // 2, hidden_size),
        )

    def forward(self, hidden_states: Tensor, layer_idx: int) -> Tensor:
        """What layer `layer_idx` gets."""
        batch_size = hidden_states.size(0)
        prompts = self.prompt_embeddings[layer_idx]
        prompts = self.prompt_encoder(prompts)
        prompts = prompts.unsqueeze(0).expand(batch_size, -1, -1)
        return torch.cat([prompts, hidden_states], dim=1)


def likeness(rows: Tensor) -> tuple[float, float]:
    """Mean cosine of two different rows, and the share of Σ‖row‖² that is not their mean."""
    rows = rows.detach()
    n = len(rows)
    unit = functional.normalize(rows, dim=1)
    cosine = float(((unit @ unit.T).sum() - n) / (n * (n - 1)))
    return cosine, float((rows - rows.mean(0)).square().sum() / rows.square().sum())


@proves("prefix-v2-idea")
def v2_idea() -> str:
    """Each of the note's prompts belongs to one layer."""
    torch.manual_seed(0)
    notes, x = NotesPTuningV2(3, 4, 8), torch.zeros(1, 5, 8)
    given = [notes(x, layer)[0, :4] for layer in range(3)]
    different = all(not torch.equal(given[a], given[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    hold(different, "two layers get the same prompts")
    return "3 layers, 3 different prompts"


@proves("prefix-v2-grows")
def v2_grows() -> str:
    """The length in the note's class, and what the layers see in ours."""
    notes, hidden = NotesPTuningV2(12, 4, 8), torch.zeros(1, 10, 8)
    for layer in range(12):
        hidden = notes(hidden, layer)
    hold(hidden.shape[1] == 58, f"12 layers give {hidden.shape[1]} positions")
    model = get_peft_model(
        tiny_gpt2(), PTuningV2Config(num_virtual_tokens=4, task_type="CAUSAL_LM")
    )
    seen = model(
        input_ids=torch.arange(10).unsqueeze(0), output_hidden_states=True, output_attentions=True
    )
    lengths = {h.shape[1] for h in seen.hidden_states}
    keys = {a.shape[-1] for a in seen.attentions}
    hold((lengths, keys) == ({10}, {14}), f"hidden states {lengths}, keys {keys}")
    return "as written 10 -> 58 positions; as derived 10 in every layer, which see 14 keys"


@proves("prefix-v2-optional")
def v2_optional() -> str:
    """The MLP has no switch, and makes most of the class."""
    with torch.device("meta"):
        notes = NotesPTuningV2(LAYERS, 20, WIDTH)
        ours = PTuningV2(LAYERS, 20, WIDTH)
    prompts = size(notes.prompt_embeddings)
    hold((size(notes), prompts) == (19_404_800, 2_621_440), f"{size(notes):,}, {prompts:,}")
    hold(size(ours) == 2 * prompts, f"ours trains {size(ours):,}")
    return f"{size(notes):,} with its MLP, {prompts:,} of them prompts; v2 trains {size(ours):,}"


@proves("prefix-v2-alike")
def v2_alike() -> str:
    """Raw prompts against what the note's MLP makes of them, 20 tokens at width 4096."""
    torch.manual_seed(0)
    notes = NotesPTuningV2(1, 20, WIDTH)
    raw, _ = likeness(notes.prompt_embeddings[0])
    cosine, share = likeness(notes.prompt_encoder(notes.prompt_embeddings[0]))
    hold(abs(raw) < 0.01 and 0.94 < cosine < 0.95 and 0.05 < share < 0.055, f"{cosine}, {share}")
    return f"mean cosine {cosine:.3f} ({raw:.3f} before the MLP); {share:.1%} differs by token"
