"""What the exercises of lesson 13 test on files: bytes put together by hand."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from torch import Tensor

from ..expect import Wrong, describe, expect, expect_close, expect_number

VALUES = {
    "b": torch.tensor([[1.0, -2.0, 0.5], [8.0, 0.0, 3.0]]),
    "a": torch.tensor([7.0]),
    "c": torch.tensor([[4.0], [9.0]]),
}


def written(order: list[str], metadata: bool, spaces: int) -> bytes:
    """A file with the tensors in this order, the header's entries in alphabetical order."""
    entries, data = {}, b""
    for name in order:
        numbers = VALUES[name].flatten().tolist()
        begin = len(data)
        data += struct.pack(f"<{len(numbers)}f", *numbers)
        place = [begin, len(data)]
        entries[name] = {"dtype": "F32", "shape": list(VALUES[name].shape), "data_offsets": place}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    header.update(sorted(entries.items()))
    text = json.dumps(header).encode() + b" " * spaces
    return struct.pack("<Q", len(text)) + text + data


def read(answer: Any) -> str:
    """Three tensors, whose order in the header is not that of the data."""
    for order, metadata, spaces in ((["b", "a", "c"], False, 0), (["c", "b", "a"], True, 5)):
        try:
            got = answer(written(order, metadata, spaces))
        except (OverflowError, MemoryError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise Wrong(
                f"the header could not be read ({type(error).__name__}): it begins at byte 8, and "
                "its length is little-endian, '<Q'"
            ) from None
        except KeyError as error:
            expect(not metadata, f"{error} of '__metadata__': that entry is no tensor; skip it")
            raise
        if not isinstance(got, dict):
            raise Wrong(f"return a dict {{name: tensor}}; this is {describe(got)}")
        expect("__metadata__" not in got, "'__metadata__' is no tensor; leave it out")
        missing = sorted(VALUES.keys() - got.keys())
        expect(not missing, f"the tensors {missing} are missing")
        for name in order:
            _same(name, got[name], order)
    return "three tensors of three shapes, in two orders, with and without metadata"


def _same(name: str, got: Any, order: list[str]) -> None:
    wanted = VALUES[name]
    known = [(wanted.flatten(), f"tensor {name!r} is flat; its shape is {tuple(wanted.shape)}")]
    if isinstance(got, Tensor) and got.shape == wanted.shape and not torch.equal(got, wanted):
        data = torch.cat([VALUES[n].flatten() for n in order])
        at = sum(VALUES[n].numel() for n in sorted(VALUES) if n < name)
        if torch.equal(got, data[at : at + wanted.numel()].view(wanted.shape)):
            raise Wrong(
                f"tensor {name!r} holds another one's numbers: the data lie as `data_offsets` "
                "says, which need not be the header's order"
            )
        raise Wrong(
            f"tensor {name!r} is {got.flatten().tolist()}, not {wanted.flatten().tolist()}: "
            "data_offsets count from the end of the header, byte 8 + H of the file"
        )
    expect_close(got, wanted, f"tensor {name!r}", known)


def predict_bytes(answer: Any) -> str:
    """80 layers, r = 8, 8192 to 8192 and 8192 to 1024, 2 bytes."""
    numbers = 80 * 8 * (8192 + 8192 + 8192 + 1024)
    known = [
        (4.0 * numbers, "twice too large: the file holds bfloat16, 2 bytes each, and r is 8"),
        (float(numbers), "that is how many numbers there are; each takes 2 bytes"),
        (80 * 2 * 8 * 16384 * 2.0, "v_proj has 1,024 outputs, not 8,192"),
        (80 * 8 * 16384 * 2.0, "that is q_proj only, or A only; both matrices have A and B"),
        (80 * 8 * 9216 * 2.0, "that is v_proj only, or B only; both matrices have A and B"),
        (8 * 25600 * 2.0, "that is one layer; there are 80"),
        (80 * 25600 * 2.0, "the rank is missing: A has 8 rows, B has 8 columns"),
    ]
    expect_number(answer, 2 * numbers, "the size", known)
    return "80 · 8 · 25,600 · 2 bytes"
