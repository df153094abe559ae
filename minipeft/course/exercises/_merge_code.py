"""What stands in the cells of lesson 13's exercises that are not lifted from the package."""

from __future__ import annotations

TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

COPY = '''\
import torch


class KeepsACopy:
    """000:L134-137: merge, but keep the original copy; unmerge applies the original copy."""

    def __init__(self, layer, delta):
        self.layer = layer  # an nn.Linear
        self.delta = delta  # ΔW (out, in)

    @torch.no_grad()
    def merge(self):
{merge}

    @torch.no_grad()
    def unmerge(self):
{unmerge}
'''
BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it (and `unmerge`, if need be).
        raise NotImplementedError("your turn")
        self.original = self.layer.weight
        self.layer.weight += self.delta"""
MENDED = """\
        self.original = self.layer.weight.clone()  # other memory: `=` only gives a second name
        self.layer.weight += self.delta"""
APPLY = "        self.layer.weight.copy_(self.original)"

LOST = '''\
import torch


def lost(weight, delta):
    """W (out, in) in its dtype, ΔW (out, in) in float32 -> a float from 0 (nothing) upwards."""
{body}
'''
LOST_BODY = """\
    merged = (weight.float() + delta).to(weight.dtype)
    rounding = merged.float() - weight.float() - delta
    return float(rounding.norm() / delta.norm())"""

READ = '''\
import json
import struct

import torch


def read(raw):
    """The bytes of a safetensors file of float32 tensors -> {{name: tensor}}."""
{body}
'''
READ_BODY = """\
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
        tensors[name] = flat.view(entry["shape"])
    return tensors"""

CHOOSE = """\
import torch

from minipeft.methods.lora_options.weighted import cat, linear, svd


def pair(kind):
    \"\"\"Two LoRAs of rank 4 beside a layer from 48 to 64, each weighed by ½: (A, B, w · s).\"\"\"
    g = torch.Generator().manual_seed(13)
    a, b = torch.randn(4, 48, generator=g), torch.randn(64, 4, generator=g)
    if kind == "alike":  # the second writes and reads the same four directions
        mix = torch.randn(2, 4, 4, generator=g)
        return [(a, b, 0.5), (mix[0] @ a, b @ mix[1], 0.5)]
    return [(a, b, 0.5), (torch.randn(4, 48, generator=g), torch.randn(64, 4, generator=g), 0.5)]


# For each: the way ("cat", "linear" or "svd") and the rank of the new adapter.
{turn}"""
CHOICE = """\
answer = {"exact": ("cat", 8), "small": ("svd", 4), "alike": ("svd", 4)}
for job, (kind, rank) in answer.items():
    parts = pair("alike" if job == "alike" else "apart")
    wanted = sum(w * b @ a for a, b, w in parts)
    a, b = svd(parts, rank) if kind == "svd" else {"cat": cat, "linear": linear}[kind](parts)
    print(job, kind, len(a), f"error {(b @ a - wanted).norm() / wanted.norm():.3f}")"""
