"""The exercises of lesson 05, prompt tuning: start a prompt, put it before a text, count it."""

from __future__ import annotations

from ..exercise import Exercise
from . import _prompt as tests

FILE = "minipeft.methods.prompt_tuning"

NOTES = """\
import torch
from torch import nn


class NotesPromptTuning(nn.Module):
    \"\"\"Lecture note 003, lines 283 to 308: with initialize_from_vocab no word is ever read.\"\"\"

{init}
    def forward(self, input_embeds):
        prompts = self.soft_prompt.unsqueeze(0).expand(input_embeds.size(0), -1, -1)
        return torch.cat([prompts, input_embeds], dim=1)
"""
BUG = """\
    def __init__(self, num_tokens, token_dim, initialize_from_vocab=None):
        super().__init__()
        # YOUR TURN: delete the raise, and mend what follows it.
        raise NotImplementedError("your turn")
        if initialize_from_vocab:
            # from the vocabulary (says the note)
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim) * 0.01)
        else:
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim))
"""
MENDED = """\
    def __init__(self, num_tokens, token_dim, initialize_from_vocab=None):
        super().__init__()
        if initialize_from_vocab is not None:
            table = initialize_from_vocab.weight.detach()  # (vocabulary, d)
            rows = torch.randint(table.shape[0], (num_tokens,))
            self.soft_prompt = nn.Parameter(table[rows].clone())
        else:
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim))
"""

EXERCISES = [
    Exercise(
        id="prompt.forward",
        lesson="05_prompt_tuning",
        title="Put the prompt before the text",
        target=f"{FILE}:PromptTuning.forward",
        task="""\
Return [P; E(x)] for `input_embeds` (b, t, d): the first v = `self.num_virtual_tokens` rows of P,
then the text, (b, v + t, d), the same P for every row of the batch.

- Take P from `self.virtual_tokens()`, not from `self.soft_prompt`: P-tuning (lesson 06) inherits
  this forward, and computes P. It may have more than v rows (2 · v beside an encoder with a
  decoder, of which the first v are read).
- The model may run in bfloat16 while P is float32: give back the dtype of `input_embeds`.
""",
        hints=(
            "P has no batch dimension and the text has one. What must P look like before the two "
            "can be joined, and along which dimension are they joined?",
            "P (v, d) -> (1, v, d) -> (b, v, d) by `expand`; joined with (b, t, d) along dimension "
            "1 it is (b, v + t, d).",
            "`prompt = self.virtual_tokens()[: ...].to(input_embeds.dtype)`, then "
            "`torch.cat([prompt.unsqueeze(0).expand(...), input_embeds], dim=...)`.",
        ),
        check=tests.forward,
    ),
    Exercise(
        id="prompt.transformer",
        lesson="05_prompt_tuning",
        title="Mask and labels grow too",
        target=f"{FILE}:PromptTunedTransformer.forward",
        task="""\
Run the frozen model on [P; E(x)], and return its output. `input_ids`, `attention_mask` and `labels`
are (b, t); the last two may be None, and then stay None.

- `self.base_model.get_input_embeddings()` is E, `self.prompt_tuning(embeds)` puts P before it.
- The model reads v + t positions, with v = `self.prompt_tuning.num_virtual_tokens`. Its mask must
  say 1 for the prompt, and its labels −100, which the loss passes over.
- Call `self.base_model(inputs_embeds=..., attention_mask=..., labels=...)`. The model here counts
  the positions itself; the package also hands over those of a padded row, from the mask.
""",
        hints=(
            "Which of the three inputs has a column for every position, and what should stand in "
            "the v new columns?",
            "mask: (b, v) of ones before (b, t); labels: (b, v) of −100 before (b, t). Both keep "
            "their dtype.",
            "`attention_mask.new_ones(batch, v)` and `labels.new_full((batch, v), -100)`, each "
            "joined in front by `torch.cat([...], dim=1)` if it is not None.",
        ),
        check=tests.transformer,
    ),
    Exercise(
        id="prompt.from_text",
        lesson="05_prompt_tuning",
        title="Start from a text",
        task="""\
`prompt_tuning_init="TEXT"` starts P at the embeddings of a text's words. Return that start, a new
tensor (v, d), for the token ids of the text (a list), an `nn.Embedding` and v.

A text with more than v tokens is cut; one with fewer is repeated from its beginning. Training P
must not change the model's own table: return a copy.
""",
        hints=(
            "For a text of 2 tokens and v = 5, which token does each of the five rows start from?",
            "Row i starts from token i mod len(ids): ids (v,) -> E(ids) (v, d).",
            "`rows = [ids[i % len(ids)] for i in range(v)]`; then index `embedding.weight` with "
            "them: indexing with a list copies.",
        ),
        check=tests.from_text,
        starter="""\
import torch
from torch import nn


def start_from_text(embedding, ids, v):
    \"\"\"P at its start, (v, d): the embeddings of the text's tokens, cut or repeated.\"\"\"
    # YOUR TURN
    raise NotImplementedError("your turn")
""",
        solution="""\
import torch
from torch import nn


def start_from_text(embedding, ids, v):
    \"\"\"P at its start, (v, d): the embeddings of the text's tokens, cut or repeated.\"\"\"
    rows = [ids[i % len(ids)] for i in range(v)]
    return embedding.weight.detach()[rows].clone()
""",
        answer="start_from_text",
    ),
    Exercise(
        id="prompt.vocab",
        lesson="05_prompt_tuning",
        title="Find the bug in the notes",
        task="""\
This is the class of note 003, lines 283 to 308. `initialize_from_vocab=True` says "initialise from
the vocabulary", and draws small random numbers: the class never sees a vocabulary.

Mend it: `initialize_from_vocab` is the model's word embedding (an `nn.Embedding`) or None. With an
embedding the prompt starts at `num_tokens` of its rows, drawn at random; with None at N(0, 1), as
before. The prompt is trained, the embedding is not changed by that.
""",
        hints=(
            "What would the class have to be given, to know what a word looks like?",
            "Draw v row numbers below the vocabulary's size, and copy these rows: (v,) -> (v, d).",
            "`rows = torch.randint(embedding.num_embeddings, (num_tokens,))`, then "
            "`nn.Parameter(embedding.weight.detach()[rows].clone())`; test with `is not None`.",
        ),
        check=tests.vocab,
        starter=NOTES.format(init=BUG),
        solution=NOTES.format(init=MENDED),
        answer="NotesPromptTuning",
    ),
    Exercise(
        id="prompt.count",
        lesson="05_prompt_tuning",
        title="How many parameters",
        target=f"{FILE}:count",
        task="""\
How many numbers are trained beside `model`? Return an `int`. `config.tokens` is v, and
`config.of_model(model)` is a dict of the model's sizes: `"token_dim"` is d, and
`"num_transformer_submodules"` is 1, or 2 for an encoder with a decoder (peft's files then hold a P
for each of the two).
""",
        hints=(
            "What is the only thing that is trained, and what is its shape?",
            "P is (v, d), and there are `num_transformer_submodules` of it. The number of layers "
            "does not come in.",
            '`known = config.of_model(model)`; `return config.tokens * known["token_dim"] * ...`.',
        ),
        check=tests.count,
    ),
]
