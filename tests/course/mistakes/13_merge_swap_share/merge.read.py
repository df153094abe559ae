"""Answers to merge.read: 8 bytes, the header, the numbers."""

import json
import struct

import numpy as np
import safetensors.torch
import torch

from minipeft.course.corpus import right, wrong


def tensors(raw, start, offset=0, order="<Q", skip=("__metadata__",), shaped=True):
    (length,) = struct.unpack(order, raw[:8])
    header = json.loads(raw[start : start + length])
    data = raw[start + length - offset :]
    found = {}
    for name, entry in header.items():
        if name in skip:
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
        found[name] = flat.view(entry["shape"]) if shaped else flat
    return found


@wrong("little-endian")
def big_endian(raw):
    return tensors(raw, 8, order=">Q")


@wrong("that entry is no tensor; skip it")
def metadata(raw):
    return tensors(raw, 8, skip=())


@wrong("leave it out")
def metadata_kept(raw):
    found = tensors(raw, 8)
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    return {name: found.get(name) for name in header}


@wrong("is flat")
def flat(raw):
    return tensors(raw, 8, shaped=False)


@wrong("count from the end of the header")
def eight_early(raw):
    return tensors(raw, 8, offset=8)


@wrong("need not be the header's order")
def in_order(raw):
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    at, found = 8 + length, {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        n = 4 * int(np.prod(entry["shape"]))
        flat = torch.frombuffer(bytearray(raw[at : at + n]), dtype=torch.float32)
        found[name], at = flat.view(entry["shape"]), at + n
    return found


@wrong("are missing")
def first_only(raw):
    found = tensors(raw, 8)
    return dict(list(found.items())[:1])


@wrong("return a dict")
def pairs(raw):
    return list(tensors(raw, 8).items())


@right
def numpy(raw):
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length].decode())
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        numbers = np.frombuffer(raw[begin:end], dtype="<f4").reshape(entry["shape"])
        found[name] = torch.from_numpy(numbers.copy())
    return found


@right
def library(raw):
    return safetensors.torch.load(raw)
