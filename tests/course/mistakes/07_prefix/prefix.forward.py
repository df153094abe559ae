"""Answers to prefix.forward: (v, 2·L·d) -> (2·L, heads, v, head_dim)."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("mixes tokens and layers")
def straight(self):
    rows = self.virtual_tokens()
    return rows.view(2 * self.num_layers, self.num_heads, len(rows), -1)


@wrong("`permute` is missing")
def only_split(self):
    rows = self.virtual_tokens()
    return rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1)


@wrong("heads come before tokens")
def tokens_first(self):
    rows = self.virtual_tokens()
    split = rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1)
    return split.permute(1, 0, 2, 3)


@wrong("split into heads first")
def heads_first(self):
    rows = self.virtual_tokens()
    split = rows.view(len(rows), self.num_heads, 2 * self.num_layers, -1)
    return split.permute(2, 1, 0, 3)


@wrong("all keys, then all values")
def keys_then_values(self):
    rows = self.virtual_tokens()
    split = rows.view(len(rows), 2, self.num_layers, self.num_heads, -1)
    return split.permute(2, 1, 3, 0, 4).flatten(0, 1)


@wrong("(head_dim, heads)")
def width_first(self):
    rows = self.virtual_tokens()
    width = rows.shape[1] // (2 * self.num_layers * self.num_heads)
    return rows.view(len(rows), 2 * self.num_layers, width, self.num_heads).permute(1, 3, 0, 2)


@wrong("only the keys are there")
def keys_only(self):
    rows = self.virtual_tokens()
    split = rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1)
    return split.permute(1, 2, 0, 3)[::2]


@wrong("the result has shape (4, 3, 4, 5)")
def layers_for_heads(self):
    rows = self.virtual_tokens()
    split = rows.view(len(rows), 2 * self.num_heads, self.num_layers, -1)
    return split.permute(1, 2, 0, 3)


@wrong("come back as they were")
def as_they_were(self):
    return self.virtual_tokens()


@wrong("which calls the MLP")
def past_the_mlp(self):
    rows = self.embedding.weight
    width = 5
    return rows.view(len(rows), 2 * self.num_layers, self.num_heads, width).permute(1, 2, 0, 3)


@wrong("with prefix_projection the result is")
def past_the_mlp_quietly(self):
    rows = self.embedding.weight
    if rows.shape[1] != 2 * self.num_layers * 10:
        return rows
    return rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1).permute(1, 2, 0, 3)


@wrong("no gradient reaches the prefix")
def detached(self):
    rows = self.virtual_tokens().detach()
    return rows.view(len(rows), 2 * self.num_layers, self.num_heads, -1).permute(1, 2, 0, 3)


@wrong("the result is None")
def no_return(self):
    self.virtual_tokens()


@right
def unflatten(self):
    rows = self.virtual_tokens()
    split = rows.unflatten(1, (2 * self.num_layers, self.num_heads, -1))
    return split.movedim(0, 2)


@right
def in_pieces(self):
    """One key or value at a time."""
    pieces = self.virtual_tokens().chunk(2 * self.num_layers, dim=1)  # each (v, d)
    return torch.stack([torch.stack(p.chunk(self.num_heads, dim=1)) for p in pieces])


@right
def two_transposes(self):
    rows = self.virtual_tokens()
    split = rows.reshape(len(rows), 2 * self.num_layers, self.num_heads, -1)
    return split.transpose(0, 1).transpose(1, 2)
