"""Rebuild the bundled models: `python -m minipeft.lab.assets.pretrain all --out FOLDER`.

PEFT on random weights teaches nothing, so the course brings two small models that know something:
a GPT-2 and a Bloom, trained here on the stories of `minipeft.lab.assets.stories`. Their entropy is
known, so this is one of the rare trainings that can say how close to perfect it came: the held-out
loss minus the entropy is the Kullback-Leibler divergence from the grammar, in nats per token.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from minipeft.lab.assets.stories import Story, story, vocabulary

NAMES = ("tiny-gpt2", "tiny-bloom")
PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
SEEDS = {"tiny-gpt2": 2, "tiny-bloom": 3}
STEPS, BATCH, LEARNING_RATE = 4000, 32, 3e-3
N_POSITIONS = 128  # the longest story has under 50 words: room for virtual tokens and few-shot


def build_tokenizer() -> Any:
    """One word, one token: a fast tokenizer with pad, eos and unk, 128 entries in all."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate([PAD, EOS, UNK, *vocabulary()])}
    core = Tokenizer(models.WordLevel(words, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, bos_token=EOS, unk_token=UNK,
        model_max_length=N_POSITIONS, padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_model(name: str, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised tiny model: 5 layers, 4 heads, width 128, no dropout.

    Five layers, for the course asks for one to three million parameters (four have 0.8).

    All widths are multiples of 64, the block size of NF4.
    """
    from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    ids: dict[str, Any] = {
        "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id,
    }  # fmt: skip
    if name == "tiny-gpt2":
        gpt2 = GPT2LMHeadModel(GPT2Config(
            n_embd=128, n_layer=5, n_head=4, n_positions=N_POSITIONS,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, **ids))  # fmt: skip
        # Learned positions that start as sinusoids: "the word before" is then the same rotation at
        # every position, and copying, which builds on it, is learned in half the steps.
        angle = torch.arange(N_POSITIONS)[:, None] * 1000 ** (-torch.arange(64) / 64)
        gpt2.transformer.wpe.weight.data = 0.03 * torch.cat([angle.sin(), angle.cos()], dim=1)
        return gpt2
    return BloomForCausalLM(BloomConfig(
        hidden_size=128, n_layer=5, n_head=4, hidden_dropout=0.0, attention_dropout=0.0,
        **ids))  # fmt: skip


class Batch(NamedTuple):
    """Stories as tensors (batch, time): all int64; labels are -100 on padding."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def collate(stories: list[Story], tokenizer: Any) -> Batch:
    """Right-padded stories, each closed by eos; labels are -100 on the padding."""
    rows = [[*tokenizer.convert_tokens_to_ids(s.text.split()), tokenizer.eos_token_id]
            for s in stories]  # fmt: skip
    width = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    pad = tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return Batch(ids, mask, ids.masked_fill(mask == 0, -100))


def batches(rng: random.Random, tokenizer: Any, steps: int) -> Iterator[Batch]:
    """`steps` batches of fresh stories, of similar length within a batch to save padding."""
    pool: list[list[Story]] = []
    for _ in range(steps):
        if not pool:
            drawn = sorted((story(rng) for _ in range(16 * BATCH)), key=lambda s: len(s.text))
            pool = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
            rng.shuffle(pool)
        yield collate(pool.pop(), tokenizer)


def forward_loss(model: Any, batch: Batch, shift: bool, rng: random.Random) -> torch.Tensor:
    """Mean next-token loss; with `shift`, every row starts at a random position of its own.

    GPT-2 learns one vector per position. Stories are short, so without the shift the later
    vectors would never be trained, and virtual tokens, which push the text along, would fail.
    """
    extra = {}
    if shift:
        rows, width = batch.ids.shape
        start = torch.tensor([[rng.randrange(N_POSITIONS - width + 1)] for _ in range(rows)])
        extra["position_ids"] = start + torch.arange(width)  # (batch, time)
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, **extra).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())


@torch.no_grad()
def held_out(model: Any, tokenizer: Any, count: int = 2000, seed: int = 10**6) -> dict[str, float]:
    """Loss and entropy per predicted token on stories that training has not seen.

    The first word has no context, so neither number counts it; eos is counted in both.

    Returns:
        `loss` and `entropy` in nats per token, and `excess`: loss / entropy - 1.
    """
    rng = random.Random(seed)
    stories = sorted((story(rng) for _ in range(count)), key=lambda s: len(s.text))
    model.eval()
    loss, tokens = 0.0, 0
    for i in range(0, count, BATCH):
        batch = collate(stories[i : i + BATCH], tokenizer)
        logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits.float()
        labels = batch.labels[:, 1:].flatten()
        # virtual tokens of a fine-tuned model stand before the text: its positions are the last
        texts = logits[:, -batch.ids.shape[1] : -1].flatten(0, 1)
        loss += functional.cross_entropy(texts, labels, reduction="sum").item()
        tokens += int((labels != -100).sum())
    entropy = sum(s.nats - s.first_nats for s in stories) / tokens
    return {"loss": loss / tokens, "entropy": entropy, "excess": loss / tokens / entropy - 1}


def pretrain(
    name: str, folder: Path, steps: int = STEPS, seed: int | None = None
) -> dict[str, Any]:
    """Train one model from its seed and write a transformers checkpoint, float16, to `folder`.

    Returns:
        What `pretraining.json` beside the weights says: seed, steps, losses, versions, seconds.
    """
    import transformers
    from tqdm import tqdm

    seed = SEEDS[name] if seed is None else seed
    tokenizer = build_tokenizer()
    model = build_model(name, tokenizer, seed)
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)  # fmt: skip
    # Copying is learned late and suddenly: keep the rate high for long, then anneal to zero.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / 200, 1.0, (steps - t) / (0.4 * steps)))  # fmt: skip
    started = time.perf_counter()
    bar = tqdm(batches(rng, tokenizer, steps), total=steps, desc=name, file=sys.stdout,
               mininterval=20)  # fmt: skip
    model.train()
    for step, batch in enumerate(bar):
        # Shifting from the start would delay copying: do it to every other batch, later.
        shift = name == "tiny-gpt2" and step > 0.4 * steps and step % 2 == 0
        loss: Any = forward_loss(model, batch, shift, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    seconds = time.perf_counter() - started
    model.half()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    report = {
        "name": name, "seed": seed, "steps": steps, "batch": BATCH,
        "parameters": model.num_parameters(),
        "held_out": held_out(model.float(), tokenizer),  # of the weights as stored: rounded
        "seconds": round(seconds, 1), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    (folder / "pretraining.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m minipeft.lab.assets.pretrain", description=__doc__
    )
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "assets")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    for name in NAMES if args.name == "all" else (args.name,):
        print(json.dumps(pretrain(name, args.out / name, args.steps, args.seed), indent=2))


if __name__ == "__main__":
    main()
