"""Answers to capstone.collate: what goes wrong with labels, masks, and a pad that is eos."""

import torch

from minipeft.course.corpus import right, wrong


def parts(pairs):
    """Each row's prompt, completion and padding."""
    width = max(len(p) + len(c) for p, c in pairs)
    return [(p, c, width - len(p) - len(c)) for p, c in pairs]


def tensors(ids, mask, labels, device):
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {key: torch.tensor(rows, device=device) for key, rows in batch.items()}


def right_ones(pairs, tokenizer):
    ids = [p + c + [tokenizer.pad_token_id] * k for p, c, k in parts(pairs)]
    mask = [[1] * (len(p) + len(c)) + [0] * k for p, c, k in parts(pairs)]
    labels = [[-100] * len(p) + c + [-100] * k for p, c, k in parts(pairs)]
    return ids, mask, labels


@wrong("there are no labels")
def as_in_note_002(pairs, tokenizer, device):
    ids, mask, _ = right_ones(pairs, tokenizer)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@wrong("no attention_mask")
def no_mask(pairs, tokenizer, device):
    ids, _, labels = right_ones(pairs, tokenizer)
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


@wrong("the labels are the ids")
def ids_as_labels(pairs, tokenizer, device):
    ids, mask, _ = right_ones(pairs, tokenizer)
    return tensors(ids, mask, ids, device)


@wrong("the prompt counts in the loss")
def prompt_counts(pairs, tokenizer, device):
    ids, mask, _ = right_ones(pairs, tokenizer)
    return tensors(ids, mask, [p + c + [-100] * k for p, c, k in parts(pairs)], device)


@wrong("padding counts in the loss")
def padding_counts(pairs, tokenizer, device):
    ids, mask, _ = right_ones(pairs, tokenizer)
    labels = [[-100] * len(p) + c + [9] * k for p, c, k in parts(pairs)]
    return tensors(ids, mask, labels, device)


@wrong("the model never learns to stop")
def eos_left_out(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["labels"][batch["input_ids"] == tokenizer.pad_token_id] = -100
    return batch


@wrong("transformers' models shift them themselves")
def shifted(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["labels"] = torch.roll(batch["labels"], -1, dims=1)
    return batch


@wrong("0 is a token")
def zero_for_nothing(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["labels"].clamp_(min=0)
    return batch


@wrong("the mask hides the eos that ends a row")
def mask_from_ids(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["attention_mask"] = (batch["input_ids"] != tokenizer.pad_token_id).long()
    return batch


@wrong("the mask is 1 on padding too")
def all_ones(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    return batch


@wrong("the mask is upside down")
def upside_down(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    batch["attention_mask"] = 1 - batch["attention_mask"]
    return batch


@wrong("padded on the left")
def left(pairs, tokenizer, device):
    ids = [[tokenizer.pad_token_id] * k + p + c for p, c, k in parts(pairs)]
    mask = [[0] * k + [1] * (len(p) + len(c)) for p, c, k in parts(pairs)]
    labels = [[-100] * (k + len(p)) + c for p, c, k in parts(pairs)]
    return tensors(ids, mask, labels, device)


@wrong("another dtype")
def floats(pairs, tokenizer, device):
    batch = tensors(*right_ones(pairs, tokenizer), device)
    return {key: t.float() for key, t in batch.items()}


@wrong("expected sequence of length")
def ragged(pairs, tokenizer, device):
    rows = [p + c for p, c in pairs]
    return tensors(rows, [[1] * len(r) for r in rows], rows, device)


@right
def by_lists(pairs, tokenizer, device):
    return tensors(*right_ones(pairs, tokenizer), device)


@right
def by_tensors(pairs, tokenizer, device):
    shape = len(pairs), max(len(p) + len(c) for p, c in pairs)
    ids = torch.full(shape, tokenizer.pad_token_id, device=device)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (p, c) in enumerate(pairs):
        end = len(p) + len(c)
        ids[i, :end] = torch.tensor(p + c)
        mask[i, :end] = 1
        labels[i, len(p) : end] = ids[i, len(p) : end]
    return {"labels": labels, "attention_mask": mask, "input_ids": ids}
