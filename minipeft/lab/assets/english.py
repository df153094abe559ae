"""Rebuild tiny-llama, the model that reads English: `python -m minipeft.lab.assets.english`.

The English that is on every machine with Python is what programmers wrote to each other: the
docstrings and comments of the standard library and of the packages that this one needs. From it
come a tokenizer of 1,024 byte-level pieces and a Llama of 2 million parameters. The topics of
`pydoc_data`, on which the fine-tunes of the tests are measured, are kept out: the file, and every
paragraph that shares 13 words in a row with them. The text itself is not part of the package.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import random
import re
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

PIECES = 1024  # entries of the tokenizer
CONTEXT = 256
EOS, PAD = "<eos>", "<pad>"
SEED = 4
HELD_OUT = 50  # one document of so many is never trained on
OVERLAP = 13  # words in a row that a paragraph may not share with the topics
# A conversation as the tokenizer's template writes it; what the assistant says is marked.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}Answer:"
    "{% generation %}{{ ' ' + m['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ m['role'] | capitalize + ': ' + m['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
WORD = re.compile(r"[a-z]+")


def sources() -> list[Path]:
    """The .py files of the standard library and of what is installed beside it, in one order."""
    roots = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    files = {p for root in roots for p in root.rglob("*.py")}
    left = ("pydoc_data", "test", "tests", "lib2to3", "minipeft", "idlelib")
    return sorted(p for p in files if not set(left) & set(p.parts))


def prose(text: str) -> Iterator[str]:
    """The paragraphs of a docstring or comment that are sentences and not tables or code."""
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(line.strip() for line in block.strip().splitlines())
        letters = sum(c.isalpha() or c in " ,.'" for c in paragraph)
        words = len(WORD.findall(paragraph.lower()))
        whole = words >= 8 and paragraph[-1] in ".?!:" and paragraph.isascii()
        if whole and letters > 0.9 * len(paragraph) and ">>>" not in paragraph:
            yield re.sub(r"\s+", " ", paragraph)


def written_in(source: str) -> Iterator[str]:
    """The docstrings of a file, and its comments, each block of lines as one text."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
    for block in re.findall(r"(?:^[ \t]*#(?!!).*\n)+", source, flags=re.MULTILINE):
        yield "\n".join(line.strip().lstrip("#").strip() for line in block.splitlines())


def runs(text: str) -> set[tuple[str, ...]]:
    """All runs of 13 words in a text."""
    words = WORD.findall(text.lower())
    return {tuple(words[i : i + OVERLAP]) for i in range(len(words) - OVERLAP + 1)}


def corpus() -> list[str]:
    """Documents: one file's paragraphs each, none of which stands anywhere twice."""
    from pydoc_data.topics import topics

    forbidden = set().union(*(runs(text) for text in topics.values()))
    seen: set[str] = set()
    documents = []
    for file in sources():
        kept = []
        for text in written_in(file.read_text(encoding="utf-8", errors="replace")):
            for paragraph in prose(text):
                key = " ".join(WORD.findall(paragraph.lower()))
                if key not in seen and not runs(paragraph) & forbidden:
                    seen.add(key)
                    kept.append(paragraph)
        if kept:
            documents.append("\n\n".join(kept))
    return documents


def build_tokenizer(documents: list[str]) -> Any:
    """A byte-level BPE: every text is a sequence of its pieces, none is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=[PAD, EOS], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(documents, trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, bos_token=EOS,
        model_max_length=CONTEXT, padding_side="right", chat_template=TEMPLATE,
        model_input_names=["input_ids", "attention_mask"], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_model(tokenizer: Any) -> Any:
    """A random Llama: 4 layers, 4 heads, width 192, 2 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512,
            num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
            max_position_embeddings=CONTEXT, tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )
    )  # fmt: skip


def stream(tokenizer: Any, documents: list[str]) -> torch.Tensor:
    """All documents as one row of tokens, each closed by eos."""
    core, end = tokenizer.backend_tokenizer, tokenizer.eos_token_id
    ids: list[int] = []
    for encoded in core.encode_batch(documents):
        ids += [*encoded.ids, end]
    return torch.tensor(ids, dtype=torch.int16)


@torch.no_grad()
def loss_of(model: Any, ids: torch.Tensor) -> float:
    """Nats per token over a row of tokens, in blocks of the context."""
    model.eval()
    device = next(model.parameters()).device
    blocks = ids[: len(ids) // CONTEXT * CONTEXT].long().view(-1, CONTEXT)
    losses = [
        model(input_ids=part.to(device), labels=part.to(device)).loss.item() * len(part)
        for part in torch.split(blocks, 64)
    ]
    return float(sum(losses)) / len(blocks)


def train(model: Any, ids: torch.Tensor, steps: int, batch: int, lr: float, device: str) -> float:
    """AdamW with warm-up and cosine decay on random blocks; returns the seconds it took."""
    model.to(device).train()
    ids = ids.to(device).long()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=device == "cuda")
    warm = max(1, steps // 50)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * t / steps))
    )
    generator = torch.Generator().manual_seed(SEED)
    window = torch.arange(CONTEXT, device=device)
    started = time.perf_counter()
    for step in range(steps):
        starts = torch.randint(len(ids) - CONTEXT, (batch,), generator=generator).to(device)
        rows = ids[starts[:, None] + window]  # (batch, time)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            seconds = time.perf_counter() - started
            print(f"step {step}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    return time.perf_counter() - started


def main() -> None:
    """Make the corpus, the tokenizer and the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=Path, help="keep the tokens here, or take them from here")
    given = parser.parse_args()
    import transformers
    from transformers import AutoTokenizer

    if given.tokens and given.tokens.is_file():
        kept = torch.load(given.tokens)
        tokenizer = AutoTokenizer.from_pretrained(given.out)
    else:
        documents = corpus()
        random.Random(SEED).shuffle(documents)
        held, learned = documents[::HELD_OUT], [d for i, d in enumerate(documents) if i % HELD_OUT]
        tokenizer = build_tokenizer(learned)
        tokenizer.save_pretrained(given.out)
        kept = {
            "train": stream(tokenizer, learned), "held": stream(tokenizer, held),
            "bytes_held": sum(len(d) for d in held), "bytes": sum(len(d) for d in learned),
            "sha256": hashlib.sha256("\0".join(learned).encode()).hexdigest(),
        }  # fmt: skip
        if given.tokens:
            torch.save(kept, given.tokens)
    print({k: len(v) if isinstance(v, torch.Tensor) else v for k, v in kept.items()}, flush=True)
    model = build_model(tokenizer)
    seconds = train(model, kept["train"], given.steps, given.batch, given.lr, given.device)
    loss = loss_of(model, kept["held"])
    record = {
        "name": "tiny-llama", "seed": SEED, "steps": given.steps, "batch": given.batch,
        "learning_rate": given.lr,
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus_bytes": kept["bytes"], "corpus_tokens": len(kept["train"]),
        "corpus_sha256": kept["sha256"],
        "device": torch.cuda.get_device_name() if given.device == "cuda" else given.device,
        "seconds": round(seconds),
        "held_out_loss": round(loss, 4),
        "held_out_bits_per_byte": round(
            loss / math.log(2) * len(kept["held"]) / kept["bytes_held"], 4
        ),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    model.to("cpu", torch.float16).save_pretrained(given.out)
    (given.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    print(record, file=sys.stderr)


if __name__ == "__main__":
    main()
