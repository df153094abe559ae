"""A model's adapters to a folder and back, and to the Hugging Face hub with a model card."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ..checks.errors import ConfigTypeError, HubError
from .keys import get_peft_model_state_dict

CARD = """# {name}

{method} for `{base}`: {trained:,} parameters, made with minipeft.

```python
from minipeft import PeftModel  # or: from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "{repo}")
```

| option | |
|---|---|
{options}
"""


def push(
    model: Any,
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    revision: str | None,
    commit_message: str,
    create_pr: bool,
) -> str:
    """Upload a `PeftModel`'s adapters and a model card: see `PeftModel.push_to_hub`."""
    from huggingface_hub import HfApi

    if not isinstance(repo_id, str) or not repo_id:
        raise ConfigTypeError(f"repo_id must be a name such as 'you/name', got {repo_id!r}")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        Path(folder, "README.md").write_text(card(model, repo_id), encoding="utf-8")
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=commit_message,
                revision=revision, create_pr=create_pr,
            )  # fmt: skip
        except Exception as error:  # the network's and the hub's errors have no common base
            offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
            why = "HF_HUB_OFFLINE is set" if offline else str(error).strip().split("\n")[0]
            raise HubError(
                f"the adapter could not be uploaded to {repo_id!r} ({type(error).__name__}: "
                f"{why}); check the network, the name and `hf auth whoami`. "
                f"save_pretrained(folder) keeps it here"
            ) from error
    return str(commit)


def card(model: Any, repo_id: str) -> str:
    """The model card: what the hub reads at its head, and what people read."""
    from huggingface_hub import ModelCardData

    config = model.peft_config[next(iter(model.peft_config))]
    base = config.base_model_name_or_path
    # a folder of this machine means nothing there
    named = base if base and not Path(base).exists() else None
    method = type(config).__name__.removesuffix("Config")
    data = ModelCardData(
        library_name="peft", base_model=named, tags=["minipeft", config.peft_type.lower()]
    )
    options = {key: value for key, value in config.to_dict().items() if value not in (None, {}, "")}
    states = [get_peft_model_state_dict(model, name) for name in model.peft_config]
    tensors = [tensor for state in states for tensor in state.values()]
    text = CARD.format(
        name=repo_id.split("/")[-1], method=method, base=named or "a local model", repo=repo_id,
        trained=sum(tensor.numel() for tensor in tensors),
        options="\n".join(f"| {k} | `{v}` |" for k, v in sorted(options.items()) if v != base),
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n\n{text}"
