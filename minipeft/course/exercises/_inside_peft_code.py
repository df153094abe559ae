"""What stands in the cells of lesson 15's exercises that are not lifted from the package."""

from __future__ import annotations

TURN = '    # YOUR TURN\n    raise NotImplementedError("your turn")'

FOLLOW = '''\
import sys


def follow(folder, run):
    """How often each function whose file lies in `folder` is called while `run()` runs.

    folder: the beginning of the file names, a str; run: a function without arguments.
    Returns {{function name: number of calls}}.
    """
{body}
'''
FOLLOW_BODY = """\
    calls = {}

    def watch(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(folder):
            calls[code.co_name] = calls.get(code.co_name, 0) + 1

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(before)
    return calls"""

ON_DISK = '''\
def on_disk(name, adapter):
    """A parameter's name in a peft model -> its name in the file, without the adapter's name.

    name: "base_model.model.h.0.attn.lora_A.default.weight"; adapter: "default".
    """
{body}
'''
ON_DISK_BODY = """\
    for matrix in ("lora_A", "lora_B"):
        name = name.replace(f".{matrix}.{adapter}.", f".{matrix}.")
    return name"""

SUBCLASS = '''\
import torch
from torch import nn


class LoraLinear({parent}):
    """004:L99, `Linear(nn.Linear, LoraLayer)`: y = W x + b + s · B A x, with W and b frozen."""

    def __init__(self, layer, r, scaling):
{init}
        self.lora_A = nn.Parameter(torch.randn(r, layer.in_features) / r)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, r))
        self.scaling = scaling

    def forward(self, x):
{forward}
'''
BUG = """\
        # YOUR TURN: delete the raise, and mend what follows it, here and below.
        raise NotImplementedError("your turn")
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.load_state_dict(layer.state_dict())  # W and b are the layer's
        self.requires_grad_(False)"""
BUG_FORWARD = (
    "        return super().forward(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T"
)
MENDED = """\
        super().__init__()
        self.base_layer = layer.requires_grad_(False)  # the object itself: nothing is copied"""
MENDED_FORWARD = (
    "        return self.base_layer(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T"
)

PREDICT = """\
# GPT-2 has 12 blocks, transformer.h.0 to transformer.h.11; in each of them are the linear layers
# attn.c_attn, attn.c_proj, mlp.c_fc and mlp.c_proj; and the output layer is lm_head.
patterns = {{
    "a": ["c_proj"],
    "b": "c_proj",
    "c": r"transformer\\.h\\.1.*\\.c_attn",
    "d": ["1.mlp.c_proj"],
    "e": ["attn.c_attn", "c_attn"],
    "f": "all-linear",
}}
# How many layers does each mean? 0 where it is refused.
{turn}"""
PREDICTED = """\
# b: a string must match the whole name. c: blocks 1, 10 and 11. d: an ending begins after a dot.
answer = {"a": 24, "b": 0, "c": 3, "d": 1, "e": 12, "f": 48}"""
