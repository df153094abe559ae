"""Answers to prompt.vocab: the notes' class, started from rows of the vocabulary."""

import torch
from torch import nn

from minipeft.course.corpus import right, wrong


class Notes(nn.Module):
    """The notes' class; `start` is what an answer changes."""

    def __init__(self, num_tokens, token_dim, initialize_from_vocab=None):
        super().__init__()
        if initialize_from_vocab is None:
            self.soft_prompt = nn.Parameter(torch.randn(num_tokens, token_dim))
        else:
            self.soft_prompt = nn.Parameter(self.start(num_tokens, initialize_from_vocab))

    def forward(self, input_embeds):
        prompts = self.soft_prompt.unsqueeze(0).expand(input_embeds.size(0), -1, -1)
        return torch.cat([prompts, input_embeds], dim=1)


@wrong("random numbers of size 0.01, as in the note")
class AsWritten(Notes):
    def start(self, v, embedding):
        return torch.randn(v, embedding.embedding_dim) * 0.01


@wrong("rows are not rows of the embedding")
class LikeTheVocabulary(Notes):
    """Of the words' mean and spread, but no words."""

    def start(self, v, embedding):
        w = embedding.weight.detach()
        return w.mean() + w.std() * torch.randn(v, w.shape[1])


@wrong("the first v rows are taken")
class FirstRows(Notes):
    def start(self, v, embedding):
        return embedding.weight.detach()[:v].clone()


@wrong("all rows are the same word")
class OneWord(Notes):
    def start(self, v, embedding):
        word = torch.randint(embedding.num_embeddings, (1,))
        return embedding.weight.detach()[word].repeat(v, 1)


@wrong("the same rows every time")
class AlwaysTheSame(Notes):
    def start(self, v, embedding):
        return embedding.weight.detach()[torch.arange(v) * 7 % embedding.num_embeddings]


@wrong("shares memory with the embedding")
class View(Notes):
    """The rows in their order, from a random place on: a slice is no copy."""

    def start(self, v, embedding):
        first = int(torch.randint(1, embedding.num_embeddings - v, (1,)))
        return embedding.weight.detach()[first : first + v]


@wrong("soft_prompt must be trainable")
class Frozen(Notes):
    def __init__(self, v, d, embedding=None):
        super().__init__(v, d, embedding)
        self.soft_prompt.requires_grad_(False)

    def start(self, v, embedding):
        return embedding.weight.detach()[torch.randperm(embedding.num_embeddings)[:v]]


@wrong("without an embedding the spread is 0.01")
class SmallWithout(Notes):
    def __init__(self, v, d, embedding=None):
        super().__init__(v, d, embedding)
        if embedding is None:
            self.soft_prompt.data *= 0.01

    def start(self, v, embedding):
        return embedding.weight.detach()[torch.randperm(embedding.num_embeddings)[:v]]


@wrong("soft_prompt has shape (1, 20, 8)")
class Batched(Notes):
    def start(self, v, embedding):
        return embedding(torch.randint(embedding.num_embeddings, (1, v)))


@right
class WithoutRepeats(Notes):
    def start(self, v, embedding):
        return embedding.weight.detach()[torch.randperm(embedding.num_embeddings)[:v]]


@right
class ThroughTheEmbedding(Notes):
    def start(self, v, embedding):
        return embedding(torch.randint(embedding.num_embeddings, (v,))).detach().clone()


@right
class IndexSelect(Notes):
    def start(self, v, embedding):
        rows = (torch.rand(v) * embedding.num_embeddings).long()
        return torch.index_select(embedding.weight.data, 0, rows)
