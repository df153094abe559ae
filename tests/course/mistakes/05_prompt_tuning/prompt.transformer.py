"""Answers to prompt.transformer: embeddings, mask and labels for v + t positions."""

import torch
from torch.nn.functional import pad

from minipeft.course.corpus import right, wrong


def run(self, ids, mask, labels):
    """The model on [P; E(x)] with this mask and these labels."""
    embeds = self.prompt_tuning(self.base_model.get_input_embeddings()(ids))
    return self.base_model(inputs_embeds=embeds, attention_mask=mask, labels=labels)


def front(given, value):
    """v = 2 columns of `value` before what was given."""
    return None if given is None else pad(given, (2, 0), value=value)


@wrong("attention_mask is None")
def the_notes(self, input_ids, attention_mask=None, labels=None):
    """As 003:L326 does it: neither mask nor labels."""
    return run(self, input_ids, None, None)


@wrong("attention_mask is (b, t) still")
def mask_left(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, attention_mask, front(labels, -100))


@wrong("attention_mask hides the prompt")
def mask_of_zeros(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, front(attention_mask, 0), front(labels, -100))


@wrong("attention_mask grew at the end")
def mask_at_the_end(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, pad(attention_mask, (0, 2), value=1), front(labels, -100))


@wrong("attention_mask is all ones")
def padding_read(self, input_ids, attention_mask=None, labels=None):
    ones = torch.ones(len(input_ids), 5, dtype=torch.long)
    return run(self, input_ids, ones, front(labels, -100))


@wrong("labels is (b, t) still")
def labels_left(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, front(attention_mask, 1), labels)


@wrong("labels asks the prompt to predict token 0")
def labels_of_zeros(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, front(attention_mask, 1), front(labels, 0))


@wrong("labels grew at the end")
def labels_at_the_end(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, front(attention_mask, 1), pad(labels, (0, 2), value=-100))


@wrong("the prompt is missing")
def no_prompt(self, input_ids, attention_mask=None, labels=None):
    embeds = self.base_model.get_input_embeddings()(input_ids)
    return self.base_model(inputs_embeds=embeds, attention_mask=attention_mask, labels=labels)


@wrong("without input_ids")
def ids_as_well(self, input_ids, attention_mask=None, labels=None):
    embeds = self.prompt_tuning(self.base_model.get_input_embeddings()(input_ids))
    return self.base_model(input_ids, inputs_embeds=embeds)


@wrong("return what the model returns; this is NoneType None")
def no_return(self, input_ids, attention_mask=None, labels=None):
    run(self, input_ids, front(attention_mask, 1), front(labels, -100))


@wrong("without attention_mask the model is given a tensor")
def mask_invented(self, input_ids, attention_mask=None, labels=None):
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    return run(self, input_ids, front(attention_mask, 1), front(labels, -100))


@right
def padded(self, input_ids, attention_mask=None, labels=None):
    return run(self, input_ids, front(attention_mask, 1), front(labels, -100))


@right
def new_tensors(self, input_ids, attention_mask=None, labels=None):
    embeds = self.prompt_tuning(self.base_model.get_input_embeddings()(input_ids))
    b, long = embeds.shape[:2]
    v = long - input_ids.shape[1]
    given = {"inputs_embeds": embeds}
    if attention_mask is not None:
        mask = torch.ones(b, long, dtype=attention_mask.dtype)
        mask[:, v:] = attention_mask
        given["attention_mask"] = mask
    if labels is not None:
        given["labels"] = torch.full((b, long), -100)
        given["labels"][:, v:] = labels
    return self.base_model(**given)
