"""What `bench_lora.py` measures; each function is run in a process of its own, on one thread.

Times are those of the processor for this process, which on one thread is what a clock shows on an
idle machine; what other processes take of the machine meanwhile is not in them.
"""

from __future__ import annotations

import copy
import gc
import random
import statistics
import time
from typing import Any

import peft
import torch
import transformers
from saved_bytes import saved_bytes
from torch import nn

import minipeft

RANK, TOKENS = 16, (4, 128)
LORA = {"r": RANK, "target_modules": "all-linear"}
# The class of the config, in both libraries, and its options.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("LoraConfig", LORA),
    "LoRA, dropout 0.1": ("LoraConfig", {**LORA, "lora_dropout": 0.1}),
    "DoRA": ("LoraConfig", {**LORA, "use_dora": True}),
    "prefix tuning": ("PrefixTuningConfig", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 20}),
    "IA³": ("IA3Config", {"task_type": "CAUSAL_LM"}),
}
Row = tuple[float, float, float]  # the quartiles of what was measured; the second is the median


def llama(biases: bool = False) -> Any:
    """A Llama of 6 layers, width 768, feed-forward 2,048, vocabulary 8,000, frozen."""
    config = transformers.LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12,
        vocab_size=8000, bos_token_id=1, eos_token_id=2, attention_bias=biases, mlp_bias=biases,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).requires_grad_(False).train()


def twin(model: Any) -> Any:
    """A model of its own over the very weights of `model`: no side has better pages."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


def adapted(base: Any, method: str, library: Any) -> Any:
    """A twin of `base` with the method in it."""
    kind, options = METHODS[method]
    return library.get_peft_model(twin(base), getattr(library, kind)(**options)).train()


def with_input_gradients(model: Any) -> Any:
    """Ask for gradients to the input embeddings, as the frozen model at ratio 1 has them."""
    getattr(model, "get_base_model", lambda: model)().enable_input_require_grads()
    return model


def ids() -> torch.Tensor:
    """The batch, 4 x 128."""
    return torch.randint(0, 8000, TOKENS, generator=torch.Generator().manual_seed(0))


def step(model: nn.Module, batch: torch.Tensor) -> float:
    """The processor's seconds for one forward and backward."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    started = time.process_time()
    model(input_ids=batch, labels=batch).loss.backward()
    return time.process_time() - started


def groups() -> dict[str, dict[str, Any]]:
    """The models of each row of the table: "frozen" and what is compared with it."""
    base, biased = llama(), llama(biases=True)
    frozen, other = twin(base), twin(biased)
    rows = {
        method: {
            "frozen": frozen,
            "ours": adapted(base, method, minipeft),
            "peft": adapted(base, method, peft),
        }
        for method in METHODS
    }
    bitfit = minipeft.get_peft_model(twin(biased), minipeft.BitFitConfig()).train()
    rows["BitFit"] = {"frozen": other, "ours": bitfit}
    rows["frozen"] = {"frozen": frozen, "ours": twin(base)}  # how far equal sides come apart
    for model in {id(m): m for sides in rows.values() for m in sides.values()}.values():
        with_input_gradients(model)
    return rows


def quartiles(values: list[float]) -> Row:
    """The three quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def steps(budget: float) -> dict[str, Any]:
    """Steps in turns for `budget` seconds: the rows, and the sides of each, in fresh order.

    Returns the number of turns, and by row the seconds of each side, and of "ours/frozen",
    "peft/frozen" and "ours/peft" the ratios within a turn; "fastest ..." are those of the fastest.
    """
    torch.set_num_threads(1)
    rows, batch, order = groups(), ids(), random.Random(0)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for sides in rows.values():  # not counted
        for model in sides.values():
            step(model, batch)
    gc.freeze()  # from here on there is little for gc.collect to look at
    gc.disable()
    ended = time.perf_counter() + budget
    while len(runs["LoRA"]) < 3 or time.perf_counter() < ended:
        for name in order.sample(list(rows), len(rows)):
            turn = order.sample(list(rows[name]), len(rows[name]))
            runs[name].append({side: step(rows[name][side], batch) for side in turn})
    result: dict[str, Any] = {"turns": len(runs["LoRA"])}
    for name, turns in runs.items():
        row: dict[str, Any] = {}
        for side in rows[name]:
            row[side] = quartiles([turn[side] for turn in turns])
        for a, b in (("ours", "frozen"), ("peft", "frozen"), ("ours", "peft")):
            if {a, b} <= rows[name].keys():
                row[f"{a}/{b}"] = quartiles([turn[a] / turn[b] for turn in turns])
                least = [min(turn[side] for turn in turns) for side in (a, b)]
                row[f"fastest {a}/{b}"] = least[0] / least[1]
        result[name] = row
    return result


def adding(count: int) -> dict[str, Row]:
    """Seconds to put a DoRA into the model, ours and peft's, and the ratio, `count` times."""
    torch.set_num_threads(1)
    base, order, runs = llama(), random.Random(0), []
    for _ in range(count + 1):
        took = {}
        for library in order.sample([minipeft, peft], 2):
            model, config = twin(base), library.LoraConfig(**METHODS["DoRA"][1])
            gc.collect()
            started = time.process_time()
            library.get_peft_model(model, config)
            took["ours" if library is minipeft else "peft"] = time.process_time() - started
        runs.append({**took, "ours/peft": took["ours"] / took["peft"]})
    return {key: quartiles([run[key] for run in runs[1:]]) for key in runs[0]}


def saved(_: int) -> dict[str, list[float]]:
    """What autograd keeps per layer with a LoRA beyond the frozen layer's, in (tokens x r)."""
    torch.set_num_threads(1)
    base, batch = llama(), ids()
    unit = 4 * batch.numel() * RANK
    frozen = with_input_gradients(twin(base))
    names = [n for n, m in base.model.named_modules() if isinstance(m, nn.Linear)]
    names = [f"model.{n}" for n in names]

    def call(model: Any) -> Any:
        return model(input_ids=batch, labels=batch)

    own = saved_bytes(frozen, names, call)
    rows: dict[str, list[float]] = {}
    for method in ("LoRA", "LoRA, dropout 0.1", "DoRA"):
        rows[method] = []
        for library in (minipeft, peft):
            model = with_input_gradients(adapted(base, method, library)).get_base_model()
            extra = saved_bytes(model, names, call) - own
            rows[method].append(extra / unit / len(names))
    return rows
