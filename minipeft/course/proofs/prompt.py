"""The proofs of lesson 05: the notes' prompt tuning as it is written, on tiny random models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...lab.zoo import ASSETS
from ...methods.prompt_tuning import (
    PROMPT_TUNING,
    PromptTunedTransformer,
    PromptTuning,
    PromptTuningConfig,
    start,
)
from ..claims import hold, proves
from .lora import LLAMA

V = 4


class NotesPromptTuning(nn.Module):
    """003:L283-308, comments left out."""

    def __init__(self, num_tokens: int, token_dim: int, initialize_from_vocab: bool = True):
        super().__init__()
        if initialize_from_vocab:
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim) * 0.01)
        else:
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim))

    def forward(self, input_embeds: Tensor) -> Tensor:
        """[P; E(x)]."""
        batch_size = input_embeds.size(0)
        soft_prompt_embeds = self.soft_prompt.unsqueeze(0).expand(batch_size, -1, -1)
        return torch.cat([soft_prompt_embeds, input_embeds], dim=1)


class NotesPromptTunedTransformer(nn.Module):
    """003:L311-334, comments left out."""

    def __init__(self, base_model: Any, num_prompt_tokens: int = 20):
        super().__init__()
        self.base_model = base_model
        for param in self.base_model.parameters():
            param.requires_grad = False
        self.prompt_tuning = NotesPromptTuning(
            num_tokens=num_prompt_tokens, token_dim=self.base_model.config.hidden_size
        )

    def forward(self, input_ids: Tensor) -> Any:
        """The model on [P; E(x)]."""
        input_embeds = self.base_model.embeddings(input_ids)
        prompted_embeds = self.prompt_tuning(input_embeds)
        return self.base_model(inputs_embeds=prompted_embeds)


def tiny(kind: str) -> Any:
    """A random model of one layer and 16 features, large enough that a mistake is visible."""
    import transformers

    sizes = {
        "GPT2": {"n_layer": 1, "n_embd": 16, "n_head": 2},
        "Bloom": {"n_layer": 1, "hidden_size": 16, "n_head": 2},
        "Bert": {
            "num_hidden_layers": 1,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
    }
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = getattr(transformers, f"{kind}Config")(vocab_size=128, **sizes[kind], **special)
    name = {"GPT2": "GPT2LMHeadModel", "Bloom": "BloomForCausalLM", "Bert": "BertModel"}[kind]
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    model.loss_type = "ForCausalLM"  # transformers warns of guessing it from the class's name
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def largest(difference: Tensor) -> float:
    """The largest entry."""
    return float(difference.detach().abs().max())


@proves("prompt-hard")
def hard() -> str:
    """At the first step a TEXT prompt is the typed text; then it is trained like any other."""
    model, words = tiny("GPT2"), torch.tensor([11, 12, 13, 14])
    ids = torch.randint(128, (1, 5))
    tuned = PromptTunedTransformer(model, V)
    tuned.prompt_tuning.copy_rows(model.get_input_embeddings(), words)
    typed = model(torch.cat([words[None], ids], dim=1)).logits
    gap = largest(tuned(ids).logits - typed)
    hold(gap < 1e-4, f"before training the logits differ by {gap}")
    tuned(ids, labels=ids).loss.backward()
    prompt = tuned.prompt_tuning.soft_prompt
    torch.optim.AdamW([prompt], lr=0.01).step()
    moved = largest(prompt - model.get_input_embeddings().weight[words])
    hold(moved > 5e-3, f"after a step the prompt moved by {moved}")
    return f"logits as with the typed text to {gap:.1g}; one step moves the vectors by {moved:.3f}"


@proves("prompt-length")
def length() -> str:
    """`num_virtual_tokens` against the two tokens of 'briefly :'."""
    model, starts = tiny("GPT2"), []
    for v in (1, 2, 5):
        config = PromptTuningConfig(
            num_virtual_tokens=v,
            prompt_tuning_init="TEXT",
            prompt_tuning_init_text="briefly :",
            tokenizer_name_or_path=str(ASSETS / "tiny-gpt2"),
        )
        made: Any = PROMPT_TUNING.build(model, config)
        start(made, model, config)
        rows = made.virtual_tokens()  # (v, d)
        found = torch.cdist(rows, model.get_input_embeddings().weight).argmin(1)
        starts.append(found.tolist())
    hold(starts == [[11], [11, 12], [11, 12, 11, 12, 11]], f"{starts}")
    return "'briefly :' (2 tokens) is cut for v = 1 and repeated for v = 5"


@proves("prompt-vocabulary")
def vocabulary() -> str:
    """How far each row of the start is from the nearest word."""
    torch.manual_seed(0)
    words = nn.Embedding(128, 64)
    far = []
    for prompt in (NotesPromptTuning(20, 64), PromptTuning[Any](20, 64, words)):
        gap = torch.cdist(prompt.soft_prompt, words.weight).min(1).values
        far.append(float(gap.detach().mean()))
    # cdist takes square roots of differences of squares: √(64 · 1e-7) and not 0 for equal rows
    hold(far[0] > 5 and far[1] < 1e-2, f"{far}")
    return f"distance to the nearest word {far[0]:.2f} as written, {far[1]:.2f} as derived"


@proves("prompt-embeddings")
def embeddings() -> str:
    """The attribute, on the models that the notes use."""
    said = []
    for kind in ("GPT2", "Bloom"):
        try:
            NotesPromptTunedTransformer(tiny(kind), V)(torch.zeros(1, 3, dtype=torch.long))
        except AttributeError as error:
            said.append(str(error))
    hold(len(said) == 2 and all("'embeddings'" in text for text in said), f"{said}")
    return "AttributeError: " + "; ".join(text.split("'")[1] for text in said) + " have none"


@proves("prompt-twice")
def twice() -> str:
    """No prompt at all, so that nothing but the embedding can differ."""
    model, ids = tiny("Bert"), torch.randint(128, (1, 5))
    notes = NotesPromptTunedTransformer(model, 0)
    gap = largest(notes(ids).last_hidden_state - model(ids).last_hidden_state)
    once = model(inputs_embeds=model.get_input_embeddings()(ids))
    right = largest(once.last_hidden_state - model(ids).last_hidden_state)
    hold(gap > 0.1 and right == 0, f"{gap} and {right}")
    return f"with 0 prompt tokens BertModel's output is off by {gap:.2f}"


@proves("prompt-mask")
def mask() -> str:
    """A row alone, and padded on the left in a batch: the last token's logits."""
    model = tiny("Bloom")
    tuned = PromptTunedTransformer(model, V)
    row, padding = torch.tensor([[5, 6, 7]]), torch.zeros(1, 2, dtype=torch.long)
    padded = torch.cat([padding, row], dim=1)
    read = torch.cat([torch.zeros_like(padding), torch.ones_like(row)], dim=1)
    alone = tuned(row, torch.ones_like(row)).logits[:, -1]
    without = largest(tuned(padded).logits[:, -1] - alone)
    with_mask = largest(tuned(padded, read).logits[:, -1] - alone)
    hold(without > 0.05 and with_mask < 1e-4, f"{without} and {with_mask}")
    return f"padding moves the logits by {without:.2f} as written, by {with_mask:.0e} with a mask"


@proves("prompt-labels")
def labels() -> str:
    """Labels for the text beside logits for prompt and text."""
    model, ids = tiny("GPT2"), torch.randint(128, (2, 5))
    tuned = PromptTunedTransformer(model, V)
    embeds = tuned.prompt_tuning(model.get_input_embeddings()(ids))
    try:
        model(inputs_embeds=embeds, labels=ids)
        said = ""
    except ValueError as error:
        said = str(error)
    hold("batch_size" in said, f"the model says {said!r}")
    logits = tuned(ids).logits[:, V - 1 : -1]  # the last of the prompt predicts the first word
    by_hand = nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
    loss = tuned(ids, labels=ids).loss
    hold(torch.allclose(loss, by_hand, atol=1e-5), f"{loss} and {by_hand}")
    return "5 labels beside 9 positions raise ValueError; grown by 4 times -100 they give a loss"


@proves("prompt-share")
def share() -> str:
    """20 tokens on Llama-2-7B."""
    n = PromptTuning[Any](20, 4096, device="meta").soft_prompt.numel()
    percent = 100 * n / (LLAMA + n)
    hold(n == 81_920 and percent < 0.1, f"{n:,}, {percent} %")
    return f"Llama-2-7B, 20 tokens: {n:,}, {percent:.4f} %"


@proves("prompt-cells")
def cells() -> str:
    """A model that has virtual tokens is given virtual tokens again."""
    from ... import get_peft_model
    from ...checks.errors import MinipeftError

    config = PromptTuningConfig(num_virtual_tokens=V, task_type="CAUSAL_LM")
    model = get_peft_model(tiny("GPT2"), config)
    try:
        get_peft_model(model, config)
        said = ""
    except MinipeftError as error:
        said = str(error)
    hold(said, "a second wrap was taken")
    return f"minipeft refuses: {said}"
