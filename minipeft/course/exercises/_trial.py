"""The checks of trial.py that look at a model or a config; the others are in _trial_more.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..expect import Wrong, describe, expect, expect_close


class _Plain(nn.Module):
    """Words by one table, as in GPT-2; nothing is called `embeddings`."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(10, 4), "wpe": nn.Embedding(6, 4)})

    def get_input_embeddings(self) -> Any:
        """The table of words."""
        return self.transformer["wte"]


class _Embeddings(nn.Module):
    """BERT's: words, positions, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.positions = nn.Embedding(10, 4), nn.Embedding(6, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, ids: Tensor) -> Any:
        """(batch, t) -> (batch, t, 4)."""
        where = torch.arange(ids.shape[1])
        return self.norm(self.word_embeddings(ids) + self.positions(where))


class _Layered(nn.Module):
    """A model that has `embeddings`, as BERT has."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embeddings()

    def get_input_embeddings(self) -> Any:
        """The table of words."""
        return self.embeddings.word_embeddings


def embeddings(answer: Any) -> str:
    """Rows of the table, for a model without `embeddings` and for one with."""
    ids = torch.tensor([[3, 1, 4], [1, 5, 9]])
    for model in (_Layered(), _Plain()):
        table = model.get_input_embeddings()
        rows = table.weight.detach()[ids]
        try:
            got = answer(model, ids)
        except AttributeError as error:
            if isinstance(model, _Layered):
                raise
            raise Wrong(
                f"a model that is built like GPT-2 raises AttributeError: {error}"
            ) from None
        expect(got is not table, "that is the table itself; it is a module, call it with the ids")
        known = [(table.weight, "all rows of the table come back; those of the ids are asked for")]
        if isinstance(model, _Layered):
            twice = "model.embeddings adds positions and normalises, and the model does so again"
            where = model.embeddings.positions.weight[:3]
            known += [(model.embeddings(ids), twice), (rows + where, "positions are added")]
        expect_close(got, rows, "the vectors of the ids", diagnose=known)
    return "the ids' rows, on a model built like GPT-2 and on one built like BERT"


class _Base(nn.Module):
    """A pretrained model that keeps the methods put on it, and where it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.methods: list[str] = []


class _Wrapped(_Base):
    """An adapted model, which could be wrapped again."""

    def __init__(self, base: _Base, config: str) -> None:
        super().__init__()
        self.base, self.asked, self.methods = base, config, base.methods


def _wrap(model: Any, config: str) -> _Wrapped:
    """As get_peft_model: changes the model it is given."""
    if not isinstance(model, _Base):
        raise Wrong(f"wrap was called with {describe(model)}; it takes a model, then a config")
    model.methods.append(config)
    return _Wrapped(model, config)


def fresh(answer: Any) -> str:
    """Three configs, on a `load` and a `wrap` that keep account."""
    asked = ["prompt", "p-tuning", "prefix"]
    got = answer(_Base, _wrap, list(asked))
    expect(got is not None, "the answer is None: is there a `return`?")
    expect(not isinstance(got, nn.Module), "one model came back; a list of three is asked for")
    try:
        models = list(got)
    except TypeError:
        raise Wrong(f"a list of models is asked for, not {describe(got)}") from None
    expect(len(models) == 3, f"{len(models)} models came back for 3 configs")
    for number, (model, config) in enumerate(zip(models, asked, strict=True), 1):
        bare = isinstance(model, _Base) and not isinstance(model, _Wrapped)
        expect(not bare, f"model {number} is what load() gives: wrap was not called on it")
        expect(isinstance(model, _Wrapped), f"model {number} is {describe(model)}")
        expect(model.asked == config, f"model {number} has {model.asked!r}, not {config!r}")
        around = isinstance(model.base, _Wrapped)
        expect(not around, f"model {number} is wrapped around another: both methods act in it")
    bases = {id(m.base) for m in models}
    expect(len(bases) == 3, "the models share one base, and each wrap has changed it for all")
    for number, model in enumerate(models, 1):
        others = [m for m in model.methods if m != model.asked]
        expect(not others, f"the base of model {number} was wrapped for {others} before")
    return "three configs, three models, each on a base that no other method has changed"


def _trained(model: nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def wrap(answer: Any) -> str:
    """What trains, by count; and that the start is the model's own output."""
    net, x = nn.Module(), torch.randn(2, 12)
    layers = [nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 9), nn.ReLU(), nn.Linear(9, 3)]
    net.seq = nn.Sequential(*layers)
    net.forward = net.seq.forward
    y = net.seq(x).detach()
    model = answer(net)
    expect(model is not None, "the answer is None: is there a `return`?")
    expect(isinstance(model, nn.Module), f"a model is asked for, not {describe(model)}")
    trained = _trained(model)
    n, whole = sum(trained.values()), 12 * 10 + 10 + 10 * 9 + 9 + 9 * 3 + 3
    known = {
        whole: f"all {whole} numbers of the model train: the config was not put to work",
        328: "seq.4 is frozen: modules_to_save is lost",
        8 * (12 + 10 + 10 + 9 + 9 + 3): "seq.4 has a LoRA; it is to be trained whole",
        8 * (12 + 10) + 30: "seq.2 has no LoRA",
        8 * (10 + 9) + 30: "seq.0 has no LoRA",
        30: "only seq.4 trains: there is no LoRA",
    }
    expect(n == 358 or n not in known, known.get(n, ""))
    rank = {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name}
    expect(rank == {8}, f"the ranks are {sorted(rank)}; asked for is 8")
    expect(
        n == 358, f"{n} numbers train, and 8·(12+10) + 8·(10+9) + 9·3 + 3 = 358 should: {trained}"
    )
    with torch.no_grad():
        moved = float((model(x) - y).abs().max())
    expect(moved < 1e-5, f"before training the output is off by {moved:.3f}: does B start at zero?")
    return (
        "358 numbers train, 8·(12+10) + 8·(10+9) of LoRA and 30 of seq.4; the start is the model's"
    )
