"""Answers to prefix.notes: the notes' class, so that the sequence does not grow."""

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


class Base(nn.Module):
    """Lecture note 003, lines 344 to 373, up to the last line."""

    def __init__(self, num_layers, num_tokens, hidden_size):
        super().__init__()
        self.num_tokens = num_tokens
        self.prompt_embeddings = nn.ParameterList(
            [nn.Parameter(torch.randn(num_tokens, hidden_size) * 0.01) for _ in range(num_layers)]
        )
        self.prompt_encoder = nn.Sequential(
            nn.Linear(hidden_size, hidden_size // 2),
            nn.Tanh(),
            nn.Linear(hidden_size // 2, hidden_size),
        )

    def prompts(self, hidden_states, layer_idx):
        rows = self.prompt_encoder(self.prompt_embeddings[layer_idx])
        return rows.unsqueeze(0).expand(hidden_states.size(0), -1, -1)


@wrong("the sequence grows again: 5 -> 7")
class AsWritten(Base):
    def forward(self, hidden_states, layer_idx):
        return torch.cat([self.prompts(hidden_states, layer_idx), hidden_states], dim=1)


@wrong("puts n prompts before the t tokens of text")
class CutsTheText(Base):
    def forward(self, hidden_states, layer_idx):
        rest = hidden_states[:, self.num_tokens :]
        return torch.cat([self.prompts(hidden_states, layer_idx), rest], dim=1)


@wrong("its own prompts are missing")
class OnlyTheFirst(Base):
    def forward(self, hidden_states, layer_idx):
        if layer_idx > 0:
            return hidden_states
        return torch.cat([self.prompts(hidden_states, layer_idx), hidden_states], dim=1)


@wrong("gets the prompts of layer 0")
class AlwaysTheSame(Base):
    def forward(self, hidden_states, layer_idx):
        rest = hidden_states[:, self.num_tokens :] if layer_idx > 0 else hidden_states
        return torch.cat([self.prompts(hidden_states, 0), rest], dim=1)


@wrong("are added to the last layer's")
class Added(Base):
    def forward(self, hidden_states, layer_idx):
        own, n = self.prompts(hidden_states, layer_idx), self.num_tokens
        if layer_idx > 0:
            return torch.cat([hidden_states[:, :n] + own, hidden_states[:, n:]], dim=1)
        return torch.cat([own, hidden_states], dim=1)


@wrong("the end of the text is replaced")
class WrongEnd(Base):
    def forward(self, hidden_states, layer_idx):
        own = self.prompts(hidden_states, layer_idx)
        if layer_idx > 0:
            return torch.cat([hidden_states[:, : -self.num_tokens], own], dim=1)
        return torch.cat([own, hidden_states], dim=1)


@wrong("the text's end is cut off")
class CutsTheEnd(Base):
    def forward(self, hidden_states, layer_idx):
        own = self.prompts(hidden_states, layer_idx)
        rest = hidden_states[:, : -self.num_tokens] if layer_idx > 0 else hidden_states
        return torch.cat([own, rest], dim=1)


@wrong("changed in place")
class InPlace(Base):
    def forward(self, hidden_states, layer_idx):
        own = self.prompts(hidden_states, layer_idx)
        if layer_idx > 0:
            hidden_states[:, : self.num_tokens] = own
            return hidden_states.clone()
        return torch.cat([own, hidden_states], dim=1)


@wrong("no gradient reaches the prompts of layer 0")
class Detached(Base):
    def forward(self, hidden_states, layer_idx):
        rest = hidden_states[:, self.num_tokens :] if layer_idx > 0 else hidden_states
        own = self.prompts(hidden_states, layer_idx)
        return torch.cat([own.detach(), rest], dim=1).requires_grad_()


@wrong("the prompts stand after the text")
class After(Base):
    def forward(self, hidden_states, layer_idx):
        rest = hidden_states[:, : -self.num_tokens] if layer_idx > 0 else hidden_states
        return torch.cat([rest, self.prompts(hidden_states, layer_idx)], dim=1)


@wrong("layer 0 should get a tensor")
class Pair(Base):
    def forward(self, hidden_states, layer_idx):
        return self.prompts(hidden_states, layer_idx), hidden_states


@right
class Sliced(Base):
    def forward(self, hidden_states, layer_idx):
        rest = hidden_states[:, self.num_tokens * min(layer_idx, 1) :]
        return torch.cat([self.prompts(hidden_states, layer_idx), rest], dim=1)


@right
class Copied(Base):
    def forward(self, hidden_states, layer_idx):
        own = self.prompts(hidden_states, layer_idx)
        if layer_idx == 0:
            return torch.cat([own, hidden_states], dim=1)
        out = hidden_states.clone()
        out[:, : own.shape[1]] = own
        return out


@right
class WithoutTheMLP(Base):
    """The MLP is optional, says the note."""

    def __init__(self, num_layers, num_tokens, hidden_size):
        super().__init__(num_layers, num_tokens, hidden_size)
        del self.prompt_encoder

    def forward(self, hidden_states, layer_idx):
        own = self.prompt_embeddings[layer_idx].expand(len(hidden_states), -1, -1)
        rest = hidden_states[:, len(own[0]) :] if layer_idx else hidden_states
        return torch.cat([own, rest], dim=1)
