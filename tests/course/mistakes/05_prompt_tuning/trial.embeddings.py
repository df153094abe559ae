"""Answers to trial.embeddings: the word embedding, called with the ids."""

from torch.nn import functional as F

from minipeft.course.corpus import right, wrong


@wrong("raises AttributeError: 'GPT2LMHeadModel'")
def only_berts(model, input_ids):
    if hasattr(model, "embeddings"):
        return model.embeddings.word_embeddings(input_ids)
    raise AttributeError("'GPT2LMHeadModel' has no attribute 'embeddings'")


@wrong("adds positions and normalises, and the model does so again")
def as_written(model, input_ids):
    return model.embeddings(input_ids)


@wrong("has no attribute 'transformer'")
def only_gpt2s(model, input_ids):
    return model.transformer["wte"](input_ids)


@wrong("that is the table itself")
def not_called(model, input_ids):
    return model.get_input_embeddings()


@wrong("all rows of the table come back")
def all_rows(model, input_ids):
    return model.get_input_embeddings().weight


@wrong("positions are added")
def with_positions(model, input_ids):
    words = model.get_input_embeddings()(input_ids)
    return words + model.embeddings.positions.weight[: input_ids.shape[1]]


@wrong("has shape (3, 4)")
def first_row_only(model, input_ids):
    return model.get_input_embeddings()(input_ids[0])


@right
def indexed(model, input_ids):
    return model.get_input_embeddings().weight[input_ids]


@right
def functional(model, input_ids):
    return F.embedding(input_ids, model.get_input_embeddings().weight)


@right
def one_hot(model, input_ids):
    table = model.get_input_embeddings().weight
    return F.one_hot(input_ids, len(table)).to(table.dtype) @ table
