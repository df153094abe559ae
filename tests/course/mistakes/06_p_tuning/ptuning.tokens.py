"""Answers to ptuning.tokens: P = head(E)."""

import torch

from minipeft.course.corpus import right, wrong


@wrong("E comes back as it is: the network is missing")
def no_network(self):
    return self.embedding.weight


@wrong("the states of the LSTM are returned")
def lstm_alone(self):
    x = self.embedding.weight
    if self.lstm_head is not None:
        return self.lstm_head(x)[0]
    return x if self.mlp_head is None else self.mlp_head(x)


@wrong("each token is a sequence of its own")
def tokens_as_batch(self):
    x = self.embedding.weight.unsqueeze(1)  # (v, 1, d): v sequences of one
    if self.lstm_head is not None:
        x = self.lstm_head(x)[0]
    if self.mlp_head is not None:
        x = self.mlp_head(x)
    return x.squeeze(1)


@wrong("the tokens come out in the reverse order")
def reversed_tokens(self):
    x = self.embedding.weight
    if self.lstm_head is not None:
        x = self.lstm_head(x)[0].flip(0)
    return x if self.mlp_head is None else self.mlp_head(x)


@wrong("asked for is (v, d)")
def batch_kept(self):
    x = self.embedding.weight.unsqueeze(0)
    if self.lstm_head is not None:
        x = self.lstm_head(x)[0]
    return x if self.mlp_head is None else self.mlp_head(x)


@wrong("that is the first layer alone")
def first_layer(self):
    return self.mlp_head[1](self.mlp_head[0](self.embedding.weight))


@wrong("the last linear layer is missing")
def last_layer_left_out(self):
    return self.mlp_head[:-1](self.embedding.weight)


@wrong("E is added to the network's output")
def residual(self):
    return self.embedding.weight + self.mlp_head(self.embedding.weight)


@wrong("no gradient reaches E")
def detached(self):
    x = self.embedding.weight.detach()
    if self.lstm_head is not None:
        x = self.lstm_head(x)[0]
    if self.mlp_head is not None:
        return self.mlp_head(x)
    return self.embedding.weight


@wrong("'NoneType' object is not callable")
def lstm_always(self):
    return self.mlp_head(self.lstm_head(self.embedding.weight)[0])


@wrong("the tokens of kind MLP is None: is there a `return`?")
def no_return(self):
    self.mlp_head(self.embedding.weight)


@wrong("the package's own")
def borrowed(self):
    from minipeft.methods.p_tuning import PromptEncoder

    return PromptEncoder.virtual_tokens(self)


@right
def without_a_batch(self):
    """nn.LSTM takes (v, d) as one sequence, too."""
    x = self.embedding.weight
    if self.lstm_head is not None:
        x, _ = self.lstm_head(x)
    return x if self.mlp_head is None else self.mlp_head(x)


@right
def through_ids(self):
    x = self.embedding(torch.arange(self.embedding.num_embeddings)[None])  # (1, v, d)
    for head in (self.lstm_head, self.mlp_head):
        if head is not None:
            x = head(x)
            x = x[0] if isinstance(x, tuple) else x
    return x[0]
