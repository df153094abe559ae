"""Answers to prompt.forward: [P; E(x)]."""

import torch

from minipeft.course.corpus import right, wrong


def prompt(self, embeds):
    """P for every row of the batch, (b, v, d)."""
    p = self.virtual_tokens()[: self.num_virtual_tokens].to(embeds.dtype)
    return p.unsqueeze(0).expand(embeds.shape[0], -1, -1)


@wrong("the prompt stands behind the text")
def behind(self, input_embeds):
    return torch.cat([input_embeds, prompt(self, input_embeds)], dim=1)


@wrong("the text is missing")
def prompt_alone(self, input_embeds):
    return prompt(self, input_embeds)


@wrong("the prompt is missing")
def text_alone(self, input_embeds):
    return input_embeds.clone()


@wrong("the prompt's rows are reversed")
def reversed_rows(self, input_embeds):
    return torch.cat([prompt(self, input_embeds).flip(1), input_embeds], dim=1)


@wrong("Sizes of tensors must match")
def not_expanded(self, input_embeds):
    return torch.cat([self.virtual_tokens().unsqueeze(0), input_embeds], dim=1)


@wrong("one row for a batch of two")
def one_row(self, input_embeds):
    return torch.cat([self.virtual_tokens(), input_embeds[0]])[None]


@wrong("the output has shape (2, 1, 3)")
def added(self, input_embeds):
    return input_embeds + self.virtual_tokens().sum(0)


@wrong("no gradient reaches P")
def detached(self, input_embeds):
    return torch.cat([prompt(self, input_embeds).detach(), input_embeds], dim=1)


@wrong("all rows of P are read")
def every_row(self, input_embeds):
    p = self.virtual_tokens().to(input_embeds.dtype)
    return torch.cat([p.expand(len(input_embeds), *p.shape), input_embeds], dim=1)


@wrong("self.soft_prompt is read")
def the_parameter(self, input_embeds):
    p = self.soft_prompt[: self.num_virtual_tokens].to(input_embeds.dtype)
    return torch.cat([p.expand(len(input_embeds), *p.shape), input_embeds], dim=1)


@wrong("bfloat16 in, a tensor of shape (2, 3, 3), float32 out")
def rises_to_float32(self, input_embeds):
    p = self.virtual_tokens()[: self.num_virtual_tokens]
    return torch.cat([p.expand(len(input_embeds), *p.shape), input_embeds.float()], dim=1)


@wrong("the output is None: is there a `return`?")
def no_return(self, input_embeds):
    torch.cat([prompt(self, input_embeds), input_embeds], dim=1)


@wrong("the package's own")
def borrowed(self, input_embeds):
    from minipeft.methods.prompt_tuning import PromptTuning

    return PromptTuning.forward(self, input_embeds)


@right
def repeated(self, input_embeds):
    p = self.virtual_tokens()[: self.num_virtual_tokens].to(input_embeds.dtype)
    return torch.cat([p.repeat(len(input_embeds), 1, 1), input_embeds], dim=1)


@right
def row_by_row(self, input_embeds):
    p = self.virtual_tokens()[: self.num_virtual_tokens].to(input_embeds.dtype)
    return torch.stack([torch.cat([p, row]) for row in input_embeds])


@right
def stacked_prompt(self, input_embeds):
    v = self.num_virtual_tokens
    p = torch.stack([self.virtual_tokens()[:v]] * len(input_embeds))
    return torch.hstack([p, input_embeds]).to(input_embeds.dtype)
