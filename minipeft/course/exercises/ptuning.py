"""The exercises of lesson 06, P-tuning: compute the prompt, count the network, keep the prompt."""

from __future__ import annotations

from ..exercise import Exercise
from . import _ptuning as tests

ENCODER = "minipeft.methods.p_tuning:PromptEncoder"

EXERCISES = [
    Exercise(
        id="ptuning.tokens",
        lesson="06_p_tuning",
        title="Compute the prompt",
        target=f"{ENCODER}.virtual_tokens",
        task="""\
Return P = head(E), (v, d). E is `self.embedding.weight` (v, d). The head is

- kind "MLP": `self.mlp_head`, an `nn.Sequential`; `self.lstm_head` is None;
- kind "LSTM": `self.lstm_head`, an `nn.LSTM` with `batch_first=True`, and then `self.mlp_head`;
- None: neither; P is E itself.

The LSTM reads the v virtual tokens as one sequence, in order. Its output is a pair, of which the
first is (…, v, 2·h): forward and backward states side by side.
""",
        hints=(
            "An LSTM with batch_first takes (batch, time, features). What is the time here, and "
            "how large is the batch?",
            "E (v, d) -> (1, v, d) -> LSTM (1, v, 2h) -> MLP (1, v, d) -> (v, d).",
            "`x = self.embedding.weight.unsqueeze(0)`; if there is an LSTM, "
            "`x = self.lstm_head(x)[0]`; if there is an MLP, `x = ...`; `return x.squeeze(0)`.",
        ),
        check=tests.tokens,
    ),
    Exercise(
        id="ptuning.count",
        lesson="06_p_tuning",
        title="How many parameters",
        target="minipeft.methods.p_tuning:count",
        task="""\
How many numbers are trained: E and the network. Return an `int`.

- v is `config.tokens`; `config.of_model(model)` has d as `"token_dim"`, and
  `"num_transformer_submodules"`: E has so many times v rows (2 for an encoder with a decoder).
- h is `config.encoder_hidden_size`, or d where that is None.
- `config.encoder_reparameterization_type` is "MLP" (widths d → h → h → d, each with a bias) or
  "LSTM": `config.encoder_num_layers` layers in two directions, then widths 2h → 2h → d.

In one direction a layer of an LSTM has four gates. Each reads the layer's input and its own state
(h), and has two biases of h. The first layer's input is d wide, that of every other layer 2h.
""",
        hints=(
            "How many linear layers are there, from what width to what width, and what else is "
            "trained?",
            "MLP: d·h + h + h·h + h + h·d + d. One LSTM layer with input width w: "
            "2 directions · 4 gates · (w·h + h·h + 2·h).",
            "`lstm = 8 * h * ((d + h + 2) + (layers - 1) * (2 * h + h + 2))`, and after it "
            "`2h·2h + 2h + 2h·d + d`; do not forget the rows of E.",
        ),
        check=tests.count,
    ),
    Exercise(
        id="ptuning.keep",
        lesson="06_p_tuning",
        title="Keep the prompt, drop the network",
        task="""\
When training is over, the network has done its work. Return a `PromptTuning` (lesson 05) that puts
the same vectors before a text as the given `PromptEncoder` does, without a network.

Only its `soft_prompt` is trained from here on: it must not be tied to the encoder any more.
""",
        hints=(
            "What does the frozen model see of E, of the network, of P?",
            "P = `encoder.virtual_tokens()`, (v, d). A `PromptTuning(v, d)` has `soft_prompt` "
            "(v, d).",
            "`kept = PromptTuning(*p.shape)`; under `no_grad()` `kept.soft_prompt.copy_(p)`.",
        ),
        check=tests.keep,
        starter="""\
import torch

from minipeft import PromptTuning


def keep_the_prompt(encoder):
    \"\"\"PromptEncoder -> PromptTuning with the same virtual tokens.\"\"\"
    # YOUR TURN
    raise NotImplementedError("your turn")
""",
        solution="""\
import torch

from minipeft import PromptTuning


def keep_the_prompt(encoder):
    \"\"\"PromptEncoder -> PromptTuning with the same virtual tokens.\"\"\"
    with torch.no_grad():
        p = encoder.virtual_tokens()  # (v, d)
        kept = PromptTuning(*p.shape)
        kept.soft_prompt.copy_(p)
    return kept
""",
        answer="keep_the_prompt",
    ),
    Exercise(
        id="ptuning.predict",
        lesson="06_p_tuning",
        title="Predict what is trained, and what is kept",
        task="""\
P-tuning on GPT-2 (d = 768) with 10 virtual tokens and the default network: the MLP with h = d.
Give the pair (numbers trained, numbers in the saved file). Work it out before you run anything.
""",
        hints=(
            "Three linear layers from 768 to 768, each with a bias, and one thing more that is "
            "trained. Which of this does the model ever see?",
            "trained: v·d + 3·(d² + d); the file holds P, (v, d).",
            "`answer = (7_680 + 3 * (...), 10 * ...)`",
        ),
        check=tests.predict,
        starter="answer = None  # YOUR TURN: (trained, stored)",
        solution="answer = (10 * 768 + 3 * (768 * 768 + 768), 10 * 768)",
        answer="answer",
    ),
]
