"""A model's adapters to a folder and back, and to the Hugging Face hub with a model card."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from . import checkpoint, refuse
from .errors import ConfigTypeError, HubError
from .state import get_peft_model_state_dict

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


class Stored:
    """The verbs of a `PeftModel` that reach a folder or the hub."""

    def save_pretrained(
        self: Any,
        save_directory: str | os.PathLike[str],
        selected_adapters: Iterable[str] | None = None,
        save_encoder: bool = False,
    ) -> None:
        """Write the adapters, all or those named, as peft does: but "default" into subfolders.

        `save_encoder` adds the network of a P-tuning or a projected prefix, to train it on.
        """
        names = refuse.non_names("selected_adapters", selected_adapters, tuple(self.peft_config))
        refuse.unknown(self.peft_config, names)
        configs = {name: self.peft_config[name] for name in names}
        checkpoint.save_all(self.get_base_model(), configs, save_directory, save_encoder)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> Any:
        """The base model with an adapter in it.

        Args:
            model: the base model that the adapter was made for.
            model_id: the folder, or the name of a repository on the Hugging Face hub.
            adapter_name: what to call it.
            is_trainable: True to go on training; otherwise it is frozen, in eval mode.
            revision: of the repository: a branch, tag or commit; token: of your account.
            subfolder: where in the folder or the repository the adapter is.

        Raises:
            CheckpointNotFoundError, CheckpointError: the model was not changed.
        """
        refuse.non_model(model)
        where = {"revision": revision, "subfolder": subfolder, "token": token}
        planned = checkpoint.load(model, model_id, adapter_name, is_trainable, **where)
        self: Any = cls.__new__(cls)
        nn.Module.__init__(self)
        self._start(model, planned)
        return self if is_trainable else self.eval()

    def load_adapter(
        self: Any,
        model_id: str | os.PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> None:
        """Load one more adapter, with `from_pretrained`'s errors; `set_adapter` puts it to use."""
        refuse.merged(self.base_model.merged, "load_adapter")
        refuse.taken(self.peft_config, adapter_name)
        where = {"revision": revision, "subfolder": subfolder, "token": token}
        base = self.get_base_model()
        self._add(checkpoint.load(base, model_id, adapter_name, is_trainable, **where))

    def push_to_hub(
        self: Any,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload adapter",
        create_pr: bool = False,
    ) -> str:
        """Upload the adapters and a model card.

        Args:
            repo_id: "you/name"; made if it is not there.
            private: whether a new repository is private; None: as your account says.
            token: of your account; None: the one that `hf auth login` keeps.
            revision: the branch; create_pr: propose the commit instead of making it.
            commit_message: of the commit.

        Returns:
            the address of the commit.

        Raises:
            HubError: no network, no right, a name that is none; nothing was uploaded.
        """
        from huggingface_hub import HfApi

        if not isinstance(repo_id, str) or not repo_id:
            raise ConfigTypeError(f"repo_id must be a name such as 'you/name', got {repo_id!r}")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            Path(folder, "README.md").write_text(card(self, repo_id), encoding="utf-8")
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
