"""`minipeft inspect`, `merge`, `generate` and `convert`: what one does with an adapter's folder."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ..checks.errors import CheckpointError, ConfigError
from ..checks.say import listed
from ..saving.files import CONFIG, WEIGHTS
from .models import device_of, skeleton

app = typer.Typer()

Base = Annotated[
    str, typer.Option(help="the base model: tiny-llama, a folder, or a name on the hub")
]
Folder = Annotated[str, typer.Argument(help="the adapter's folder, or its name on the hub")]
# Of our methods, those that Hugging Face peft has no type for.
OURS_ALONE = {
    "ADAPTER": "bottleneck adapters",
    "BITFIT": "BitFit",
}


@app.command(epilog="Example: minipeft inspect my-lora --base tiny-llama")
def inspect(
    folder: Folder,
    base: Annotated[
        str | None, typer.Option(help="say as well whether it fits this base model")
    ] = None,
) -> None:
    """Say what is in an adapter's folder, and whether it is intact.

    The exit status is 1 if it is damaged or does not fit the base. The base is built from its
    config alone, so a large one costs nothing.
    """
    from ..saving import digests as proof
    from ..saving.files import changed as edits
    from ..saving.files import find_folder, opened
    from ..saving.keys import finite

    place = find_folder(folder)
    shapes, numbers, dtypes = 0, 0, set()
    with opened(place) as (config, file, weights):
        told = proof.read(file.metadata() or {}, weights)
        for key in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(key)
            shapes, numbers = shapes + 1, numbers + tensor.numel()
            dtypes.add(str(tensor.dtype).removeprefix("torch."))
            if not finite(tensor):
                raise CheckpointError(f"{weights}: {key!r} holds NaN or infinity")
            proof.check(key, tensor, told, weights)
        if lost := sorted(told.get("sha256", {}).keys() - {*file.keys(), CONFIG}):
            raise CheckpointError(f"{weights} lacks {len(lost)} tensors: {listed(lost, 3)}")
        edited = edits(config, told.get("config", {}))
    said = {
        "method": type(config).__name__.removesuffix("Config"),
        "made for": config.base_model_name_or_path or "not said",
        "tensors": f"{shapes}, {numbers:,} numbers, {', '.join(sorted(dtypes))}",
        "size": f"{weights.stat().st_size:,} bytes",
        "options": ", ".join(changed(config)) or "all as by default",
    }
    for name, value in said.items():
        typer.echo(f"{name + ':':10}{value}")
    if (place / "adapter_model.bin").exists():
        typer.echo("beside it: adapter_model.bin, a pickle, which minipeft never reads")
    for edit in edited:
        typer.echo(f"edited since it was saved: {edit}")
    whole = "all tensors are what was saved" if told else "it has no hashes, as peft writes none"
    typer.echo(f"intact: all numbers are finite; {whole}")
    if base is not None:
        from ..saving.checkpoint import load

        load(skeleton(base, config), place, "default", False)
        typer.echo(f"fits {base}")


def changed(config: Any) -> list[str]:
    """`r=4`, ...: the options that are not their class's default."""
    said = []
    for each in dataclasses.fields(config):
        known = each.default
        if each.default_factory is not dataclasses.MISSING:
            known = each.default_factory()
        value = getattr(config, each.name)
        if each.name not in ("base_model_name_or_path", "inference_mode") and value != known:
            said.append(f"{each.name}={getattr(value, 'value', value)!r}")
    return said


@app.command(epilog="Example: minipeft merge my-lora --base tiny-llama -o my-model")
def merge(
    folder: Folder,
    base: Base,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a new folder for the merged model")
    ],
) -> None:
    """Fold an adapter into its base, and save an ordinary transformers model with its tokenizer."""
    import torch

    from ..lab.zoo import load_base
    from ..model import PeftModel

    if output.exists():
        raise ConfigError(f"--output {output} exists already; give a new folder, or delete it")
    model, tokenizer = load_base(base)
    adapted = PeftModel.from_pretrained(model, folder)
    ids = torch.arange(3, 3 + min(32, len(tokenizer) - 3))[None]  # (1, time)
    with torch.no_grad():
        before = adapted(input_ids=ids).logits
        plain: Any = adapted.merge_and_unload()
        apart = (plain(input_ids=ids).logits - before).abs().max() / before.abs().max()
    if not apart < 1e-3:  # float32 sums in another order stay below 1e-5
        raise CheckpointError(f"the merged model answers otherwise, by {apart:.1e} of its logits")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as stage:
        whole = Path(stage) / "model"
        plain.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        os.rename(whole, output)
    typer.echo(f"merged into {output}; its logits differ from the adapter's by {apart:.1e} of them")


@app.command(epilog="Example: minipeft generate --base tiny-llama --adapter my-run -p 'A list is'")
def generate(
    base: Base,
    adapter: Annotated[str | None, typer.Option(help="an adapter's folder or name")] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="what to go on from; without it, lines of stdin"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="the most tokens to write")] = 60,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest token; 1 draws as trained")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="draw from the likeliest tokens of this share")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="of what is drawn")] = 0,
    chat: Annotated[
        bool, typer.Option("--chat", help="give the prompt as a user's message")
    ] = False,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, mps; auto is the GPU if there is one")
    ] = "auto",
) -> None:
    """Let a base model write on, with or without an adapter."""
    import torch
    from transformers import TextStreamer

    from ..lab.zoo import load_base
    from ..model import PeftModel

    place = device_of(device)
    model, tokenizer = load_base(base)
    if chat and tokenizer.chat_template is None:
        raise ConfigError(f"--chat needs a chat template, and {base}'s tokenizer has none")
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.to(place)
    torch.manual_seed(seed)
    drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p}
    options: dict[str, Any] = drawn if temperature > 0 else {"do_sample": False}
    for line in [prompt] if prompt is not None else (line.rstrip("\n") for line in sys.stdin):
        text = line
        if chat:
            turns = [{"role": "user", "content": line}]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not chat).to(place)
        if not inputs["input_ids"].numel():
            raise ConfigError("the prompt is empty; give a word to begin with")
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        model.generate(
            **inputs, max_new_tokens=max_new_tokens, streamer=streamer,
            pad_token_id=tokenizer.pad_token_id, **options,
        )  # fmt: skip


@app.command(epilog="Example: minipeft convert my-lora all-of-mine --name french")
def convert(
    folder: Folder,
    output: Annotated[Path, typer.Argument(help="the folder to write into")],
    name: Annotated[
        str, typer.Option(help="the adapter's new name; one that is not default has a subfolder")
    ] = "default",
) -> None:
    """Write an adapter under another name, as a folder that Hugging Face peft reads.

    minipeft's files are peft's, so this checks and copies. A method that peft has no type for is
    refused.
    """
    from ..saving.atomic import find, replace_files
    from ..saving.files import FILES, find_folder, opened

    place = find_folder(folder)
    target = output if name == "default" else output / name

    def copy(stage: Path) -> None:
        for file in FILES:
            if find(place, file).is_file():
                shutil.copyfile(find(place, file), stage / file)

    with opened(place) as (config, _, _):
        if config.peft_type in OURS_ALONE:
            raise ConfigError(f"Hugging Face peft has no type for {OURS_ALONE[config.peft_type]}")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ConfigError(f"--name must be letters, digits, - and _, got {name!r}")
        if any(find(target, file).exists() for file in (CONFIG, WEIGHTS)):
            raise ConfigError(f"{target} holds an adapter already; give another name or folder")
        try:
            replace_files(target, FILES, copy)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error}") from error
    typer.echo(f"written to {target}")
