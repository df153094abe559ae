"""Prompt tuning: v trained vectors before the embeddings of the text; all else stays frozen.

    P ∈ (v, d),   model([P; E(x)])

Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning" (arXiv 2104.08691),
section 2. Lecture notes: 001_6dba3b3b8af31941.txt, lines 38-60, and 003_2a78d11827cb1020.txt, lines
276-330. A prompt that starts from words ("TEXT", which the notes call a hard prompt) is trained
like any other; and `initialize_from_vocab` takes the vocabulary, which in the notes it never sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checks import unfit
from ..checks.errors import ConfigError, ConfigTypeError
from ..checks.rules import member, optional, text
from ..checks.say import shown
from .config import PeftType, option
from .longer_inputs import Inputs, lengthen, lengthen_labels
from .virtual_tokens import EmbeddingPrompt, P, PromptConfig, PromptPlacement


class PromptTuningInit(str, Enum):
    """Where the vectors start: at random numbers, at a text, at random words of the vocabulary."""

    RANDOM = "RANDOM"
    TEXT = "TEXT"
    SAMPLE_VOCAB = "SAMPLE_VOCAB"


class PromptTuning(EmbeddingPrompt[P]):
    """[P; E(x)]: the soft prompt P (v, d), then the text's embeddings (t, d).

    Args:
        num_tokens: v, how many virtual tokens.
        token_dim: d, the width of an embedding.
        initialize_from_vocab: the model's word embedding, to start from v of its rows drawn at
            random; None starts from the normal distribution N(0, 1).
        dtype, device: of P.

    Attributes:
        soft_prompt: P, shape (v, d).

    Raises:
        ConfigTypeError: initialize_from_vocab is no embedding. ConfigError: it has another width.
    """

    def __init__(
        self,
        num_tokens: int,
        token_dim: int,
        initialize_from_vocab: nn.Embedding | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.num_virtual_tokens = num_tokens
        self.soft_prompt = nn.Parameter(
            torch.randn(num_tokens, token_dim, dtype=dtype, device=device)
        )
        if initialize_from_vocab is not None:
            if not isinstance(initialize_from_vocab, nn.Embedding):
                raise unfit.no_embedding(initialize_from_vocab)
            if initialize_from_vocab.embedding_dim != token_dim:
                raise unfit.other_width(token_dim, initialize_from_vocab.embedding_dim)
            words = torch.randint(initialize_from_vocab.num_embeddings, (num_tokens,))
            self.copy_rows(initialize_from_vocab, words)

    @torch.no_grad()
    def copy_rows(self, embedding: nn.Embedding, ids: Tensor) -> None:
        """P <- E(ids), for ids (v,)."""
        self.soft_prompt.copy_(embedding.weight[ids.to(embedding.weight.device)])

    def forward(self, input_embeds: Tensor) -> Tensor:
        """input_embeds (b, t, d) -> (b, v + t, d), in input_embeds' dtype."""
        prompt = self.virtual_tokens()[: self.num_virtual_tokens].to(input_embeds.dtype)
        prompts = prompt.unsqueeze(0).expand(input_embeds.shape[0], -1, -1)  # (b, v, d)
        return torch.cat([prompts, input_embeds], dim=1)

    def virtual_tokens(self) -> Tensor:
        """P, (v, d)."""
        return self.soft_prompt


class PromptTunedTransformer(nn.Module):
    """A frozen causal language model with a soft prompt, in one module (003:L311).

    Args:
        base_model: a transformers causal language model; it is frozen in place.
        num_prompt_tokens: v. The prompt starts from words of the model's vocabulary.
    """

    def __init__(self, base_model: Any, num_prompt_tokens: int = 20):
        super().__init__()
        self.base_model = base_model.requires_grad_(False)
        words: nn.Embedding = base_model.get_input_embeddings()
        self.prompt_tuning: PromptTuning[Any] = PromptTuning(
            num_prompt_tokens, words.embedding_dim, initialize_from_vocab=words
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Any:
        """Ids, mask and labels (b, t) -> the model's output for v + t positions, with its loss."""
        v = self.prompt_tuning.num_virtual_tokens
        inputs: Inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        inputs["labels"] = labels
        lengthen_labels(inputs, v)  # v times -100: the prompt is not learned by heart
        lengthen(self.base_model, inputs, v, inserted=True)  # v ones: the prompt is read
        embeds = self.base_model.get_input_embeddings()(inputs.pop("input_ids"))  # (b, t, d)
        return self.base_model(inputs_embeds=self.prompt_tuning(embeds), **inputs)


def keywords(name: str, value: Any) -> dict[str, Any]:
    """The rule of `tokenizer_kwargs`."""
    if not isinstance(value, dict):
        raise ConfigTypeError(f"{name} must be a dict, got {shown(value)}")
    return value


@dataclass
class PromptTuningConfig(PromptConfig):
    """What prompt tuning is: peft's names, defaults and meanings.

    Args:
        num_virtual_tokens: v.
        prompt_tuning_init: "RANDOM" (normal, as nn.Embedding), "TEXT", or "SAMPLE_VOCAB".
        prompt_tuning_init_text: the text to start from, with "TEXT".
        tokenizer_name_or_path: the tokenizer that reads it.
        tokenizer_kwargs: more for the tokenizer's `from_pretrained`.
    """

    peft_type: ClassVar[str] = PeftType.PROMPT_TUNING

    prompt_tuning_init: PromptTuningInit | str = option(
        PromptTuningInit.RANDOM, member(PromptTuningInit)
    )
    prompt_tuning_init_text: str | None = option(None, optional(text))
    tokenizer_name_or_path: str | None = option(None, optional(text))
    tokenizer_kwargs: dict[str, Any] | None = option(None, optional(keywords))

    def check(self) -> None:
        """A text and its tokenizer, both or neither, as `prompt_tuning_init` says."""
        super().check()
        if self.prompt_tuning_init == PromptTuningInit.TEXT:
            text("prompt_tuning_init_text", self.prompt_tuning_init_text)
            text("tokenizer_name_or_path", self.tokenizer_name_or_path)
            return
        for name in ("prompt_tuning_init_text", "tokenizer_kwargs"):
            if getattr(self, name) is not None:
                raise unfit.only_with_text(name, self.prompt_tuning_init)

    def text_ids(self) -> list[int]:
        """The token ids of `prompt_tuning_init_text`.

        Raises:
            ConfigError: the tokenizer cannot be had, or the text has no token.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                self.tokenizer_name_or_path, **(self.tokenizer_kwargs or {})
            )
        except (OSError, ValueError) as error:
            raise unfit.no_tokenizer(self.tokenizer_name_or_path) from error
        ids: list[int] = tokenizer(self.prompt_tuning_init_text)["input_ids"]
        if not ids:
            raise ConfigError(f"the text {self.prompt_tuning_init_text!r} has no tokens")
        return ids


def build(model: Any, config: Any) -> PromptTuning[Any]:
    """A prompt for this model, in float32."""
    known, words = config.of_model(model), model.get_input_embeddings()
    rows = config.tokens * known["num_transformer_submodules"]
    device = words.weight.device
    made: PromptTuning[Any] = PromptTuning(
        rows, known["token_dim"], dtype=torch.float32, device=device
    )
    made.num_virtual_tokens = config.tokens
    return made


def start(made: PromptTuning[Any], model: Any, config: Any) -> None:
    """Start from words, as `prompt_tuning_init` says."""
    words, rows = model.get_input_embeddings(), len(made.soft_prompt)
    if config.prompt_tuning_init == PromptTuningInit.SAMPLE_VOCAB:
        made.copy_rows(words, torch.randint(words.num_embeddings, (rows,)))
    elif config.prompt_tuning_init == PromptTuningInit.TEXT:
        ids = config.text_ids()
        # too long a text is cut, too short a one repeated
        made.copy_rows(words, torch.tensor([ids[i % len(ids)] for i in range(rows)]))


def count(model: Any, config: Any) -> int:
    """V · d; twice that for an encoder with a decoder."""
    known = config.of_model(model)
    return int(config.tokens * known["num_transformer_submodules"] * known["token_dim"])


PROMPT_TUNING = PromptPlacement(PromptTuning, build, count, start)
