"""What the exercises of lesson 13 test on several adapters: sums by hand, best ranks, rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...methods.lora_options import weighted
from ..corpus import run_cell
from ..exercise import find
from ..expect import Wrong, describe, expect, expect_close

# Two adapters beside a layer from 3 to 2, of rank 1 and 2; w · s = 2 and -1.
A1, B1 = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0], [1.0]])
A2 = torch.tensor([[0.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
B2 = torch.tensor([[1.0, 0.0], [4.0, 5.0]])
# 2 · (3, 6, 0; 1, 2, 0) - (0, 1, 1; 10, 4, 9)
SUM = torch.tensor([[6.0, 11.0, -1.0], [-8.0, 0.0, -9.0]])


def parts(*which: int) -> list[tuple[Tensor, Tensor, float]]:
    """The adapters of these numbers, in fresh memory: an answer may write into what it gets."""
    both = [(A1, B1, 2.0), (A2, B2, -1.0)]
    return [(both[i][0].clone(), both[i][1].clone(), both[i][2]) for i in which or (0, 1)]


def _pair(got: Any, shapes: tuple[tuple[int, int], tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """A and B, in this order and of these shapes."""
    if not (isinstance(got, tuple | list) and len(got) == 2):
        raise Wrong(f"return the pair A, B; this is {describe(got)}")
    a, b = got
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        raise Wrong(f"A and B are tensors; these are {describe(a)} and {describe(b)}")
    if (tuple(b.shape), tuple(a.shape)) == shapes:
        raise Wrong("B comes first and A second; return A, then B")
    for name, t, shape in zip("AB", (a, b), shapes, strict=True):
        expect(tuple(t.shape) == shape, f"{name} has shape {tuple(t.shape)}; asked for is {shape}")
    return a, b


def cat(answer: Any) -> str:
    """Two adapters of different ranks by hand, one alone, three."""
    given = parts()
    a, b = _pair(answer(given), ((3, 3), (2, 3)))
    now = [t for x, y, _ in given for t in (x, y)]
    same = all(map(torch.equal, now, (A1, B1, A2, B2)))
    expect(same, "the adapters' own factors were changed in place")
    plain, squared = B1 @ A1 + B2 @ A2, 4 * B1 @ A1 + B2 @ A2
    known = [
        (plain, "the weights are missing: that is the sum with wᵢsᵢ = 1"),
        (squared, "the weights are on both factors, so each counts squared; put it on one of them"),
        (2 * B1 @ A1 + B2 @ A2, "the sign of a negative weight is lost"),
        (SUM / 2, "that is the mean; asked for is the sum"),
        (2 * B1 @ A1 - B1 @ A1, "the second adapter's factors are the first's"),
    ]
    expect_close(b @ a, SUM, "B A", known)
    a, b = _pair(answer([(A2.clone(), B2.clone(), 0.5)]), ((2, 3), (2, 2)))
    expect_close(b @ a, 0.5 * B2 @ A2, "B A of one adapter alone")
    three = [*parts(), (A1.clone(), B1.clone(), -2.0)]
    a, b = _pair(answer(three), ((4, 3), (2, 4)))
    expect_close(b @ a, -B2 @ A2, "B A of three, two of which cancel,")
    return "two ranks and a negative weight by hand, one adapter, three of which two cancel"


def svd(answer: Any) -> str:
    """Eckart and Young: what is left is the tail of the singular values."""
    g = torch.Generator().manual_seed(3)
    two = [
        (torch.randn(4, 10, generator=g), torch.randn(12, 4, generator=g), w) for w in (0.7, -1.5)
    ]
    total = sum((w * b @ a for a, b, w in two), torch.zeros(12, 10))
    sigma = torch.linalg.svdvals(total)
    for rank in (3, 1):
        a, b = _pair(answer(two, rank), ((rank, 10), (12, rank)))
        best = float(sigma[rank:].square().sum().sqrt())
        left = float((total - b @ a).norm())
        if left > 1.001 * best:
            _name_svd(a, b, two, total, rank)
            raise Wrong(
                f"with rank {rank}, ‖sum - B A‖ is {left:.4f}; the nearest leaves {best:.4f}"
            )
    a, b = _pair(answer(two, 8), ((8, 10), (12, 8)))
    expect_close(b @ a, total, "with rank 8, all there is, B A", rtol=1e-3, atol=1e-4)
    low = answer(parts(0), 3)
    a, b = _pair(low, ((3, 3), (2, 3)))
    expect_close(b @ a, 2 * B1 @ A1, "the sum of rank 1 in rank 3, B A", rtol=1e-3, atol=1e-4)
    return "the error of Eckart and Young at two ranks, the whole sum, a sum of lower rank"


def _name_svd(a: Tensor, b: Tensor, two: Any, total: Tensor, rank: int) -> None:
    """Raises Wrong if the factors are those of a known mistake."""
    u, s, vt = torch.linalg.svd(total, full_matrices=False)
    unweighted = sum((y @ x for x, y, _ in two), torch.zeros_like(total))
    uw, sw, vw = torch.linalg.svd(unweighted, full_matrices=False)
    k = slice(None, rank)
    last = slice(len(s) - rank, None)
    known = [
        ((u[:, k] * s[k] ** 2) @ vt[k], "σ is in both factors, so it counts squared"),
        (u[:, k] @ vt[k], "the singular values are missing: B A should be U Σ Vᵀ"),
        ((u[:, k] * s[k].sqrt()) @ vt[k], "√σ is in one factor only; use σ in one, or √σ in both"),
        ((uw[:, k] * sw[k]) @ vw[k], "the weights are missing: wᵢsᵢ belong to the sum"),
        ((u[:, last] * s[last]) @ vt[last], "those are the last directions; keep the first"),
        (-(u[:, k] * s[k]) @ vt[k], "the sign of the sum is turned"),
    ]
    product = b @ a
    for value, message in known:
        expect(not torch.allclose(product, value, rtol=1e-3, atol=1e-4), message)
    own, other = weighted_cut(two, rank)
    expect(
        not torch.allclose(product, other @ own, rtol=1e-3, atol=1e-4),
        "those are the first rows of A and columns of B as they come: the first adapter's, and "
        "not the strongest directions of the sum",
    )


def weighted_cut(two: Any, rank: int) -> tuple[Tensor, Tensor]:
    """The first rows and columns of the concatenated factors."""
    a = torch.cat([w * x for x, _, w in two])
    return a[:rank], torch.cat([y for _, y, _ in two], dim=1)[:, :rank]


class _Double(nn.Module):
    """Twice its input, counting its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.last: Tensor | None = None

    def forward(self, x: Tensor, more: float = 0.0) -> Tensor:
        """2 x + more."""
        self.calls.append(len(x))
        self.last = 2 * x + more
        return self.last


class _Marks(nn.Module):
    """Adds a number before the layer; after it adds the input, and a number per row that it saw."""

    def __init__(self, amount: float):
        super().__init__()
        self.amount = amount

    def before(self, x: Tensor) -> Tensor:
        """X plus the number."""
        return x + self.amount

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Y, the x, and the number."""
        return y + x + 10 * self.amount


def rows(answer: Any) -> str:
    """Five rows of three users around 2x, by hand."""
    chooser = answer(["a", "__base__", "b", "a", "b"])
    adapters = nn.ModuleDict({"b": _Marks(2.0), "a": _Marks(1.0), "idle": _Marks(50.0)})
    layer, x = _Double(), torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    kept = x.clone()
    got = chooser.through(adapters, layer, x)
    expect(torch.equal(x, kept), "x was changed in place; `index_copy` gives a new tensor")
    expect(len(layer.calls) > 0, "the frozen layer is never called")
    # a: x+1, 2(x+1) + (x+1) + 10; b: x+2, 3(x+2) + 20; base: 2x
    wanted = torch.tensor([[16.0], [4.0], [35.0], [25.0], [41.0]])
    known = [
        (2 * x, "no adapter acts: that is the frozen layer alone"),
        (torch.tensor([[13.0], [4.0], [29.0], [22.0], [35.0]]), "`before` is not applied"),
        (torch.tensor([[4.0], [4.0], [10.0], [10.0], [14.0]]), "`after` is not applied"),
        (
            torch.tensor([[15.0], [4.0], [33.0], [24.0], [39.0]]),
            "`after` gets the x from outside; it gets the rows that the layer got",
        ),
    ]
    expect_close(got, wanted, "the output of five rows for three users", known)
    expect(
        layer.calls == [5],
        f"the frozen layer is called with {layer.calls} rows; once, with all 5, is enough",
    )
    assert layer.last is not None
    alone = torch.tensor([[4.0], [4.0], [10.0], [10.0], [14.0]])
    expect(torch.equal(layer.last, alone), "the layer's output was changed in place")
    deep = answer(["a", "b"]).through(adapters, _Double(), torch.ones(2, 3, 2))
    by_hand = torch.tensor([16.0, 29.0])[:, None, None].expand(2, 3, 2)
    expect_close(deep, by_hand, "for x of shape (2, 3, 2) the output")
    more = answer(["__base__"]).through(adapters, _Double(), torch.ones(1, 1), more=4.0)
    expect_close(more, torch.tensor([[6.0]]), "with an argument for the layer the output")
    beams = answer(["a", "__base__"]).through(adapters, _Double(), torch.ones(4, 1))
    four = torch.tensor([[16.0], [16.0], [2.0], [2.0]])
    expect_close(beams, four, "with two rows for each name (`self.of` counts them) the output")
    return "five rows of three users by hand, one call of the layer, nothing in place, beams"


JOBS = {"exact": ("apart", 8), "small": ("apart", 4), "alike": ("alike", 8)}
BEST = {"exact": ("cat", 8), "small": ("svd", 4), "alike": ("svd", 4)}


def made(two: Any, kind: str, rank: int) -> Tensor:
    """ΔW of a choice."""
    if kind == "svd":
        a, b = weighted.svd(two, rank)
    else:
        a, b = weighted.cat(two) if kind == "cat" else weighted.linear(two)
    return b @ a


def choose(answer: Any) -> str:
    """Each choice measured on the data of the exercise."""
    if not isinstance(answer, dict):
        raise Wrong(
            f"give a dictionary with the keys exact, small and alike, not {describe(answer)}"
        )
    expect(set(answer) == set(JOBS), f"the keys are exact, small and alike, not {sorted(answer)}")
    pair = run_cell(find("merge.choose").solution.partition("# For each")[0])["pair"]
    for job, (data, most) in JOBS.items():
        choice = answer[job]
        if not (isinstance(choice, tuple | list) and len(choice) == 2):
            raise Wrong(f"{job}: give (way, rank), such as ('svd', 4), not {describe(choice)}")
        kind, rank = choice
        expect(kind in ("cat", "linear", "svd"), f"{job}: the way is cat, linear or svd")
        whole = isinstance(rank, int) and not isinstance(rank, bool)
        expect(whole and 0 < rank <= most, f"{job}: the rank is 1 to {most}, not {rank!r}")
        fixed = {"cat": 8, "linear": 4}.get(kind, rank)
        expect(rank == fixed, f"{job}: {kind} of these two has rank {fixed}, not {rank}")
        two = pair(data)
        total = made(two, "cat", 8)
        off, best = (
            float((made(two, *c) - total).norm() / total.norm()) for c in ((kind, rank), BEST[job])
        )
        better = (
            f"{BEST[job][0]} of rank {BEST[job][1]} {best:.3f}" if best > 1e-4 else "0 can be had"
        )
        expect(
            off < best + 1e-4,
            f"{job}: {kind} of rank {rank} leaves an error of {off:.3f}; {better}",
        )
        expect(
            rank <= BEST[job][1],
            f"{job}: rank {rank} stores twice what is needed: the sum has rank {BEST[job][1]}",
        )
        expect(
            kind == BEST[job][0],
            f"{job}: {kind} decomposes in every layer, and finds what cat has without work",
        )
    return "error, rank and work of each choice, measured"
