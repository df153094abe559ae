"""`push_to_hub`: what is uploaded, and what is said when it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from conftest import inputs, tiny

from minipeft import IA3Config, LoraConfig, MinipeftError, PeftModel, get_peft_model


class Place:
    """A hub in a folder: what `HfApi` and `snapshot_download` are asked is done there."""

    def __init__(self, root: Path):
        self.root, self.calls = root, []  # type: ignore[var-annotated]

    def api(self, token: str | None = None) -> Place:
        self.calls.append({"token": token})
        return self

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(options)
        (self.root / repo_id).mkdir(parents=True, exist_ok=options["exist_ok"])

    def upload_folder(self, repo_id: str, folder_path: str, **options: Any) -> str:
        self.calls.append(options)
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def download(self, repo_id: str, **_: Any) -> str:
        return str(self.root / repo_id)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", made.api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.download)
    return made


def adapted() -> Any:
    torch.manual_seed(0)
    model = get_peft_model(tiny("gpt2"), LoraConfig(r=2, init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = "gpt2"
    return model.eval()


def test_what_is_pushed_comes_back(place: Place):
    model = adapted()
    model.add_adapter("other", IA3Config())
    address = model.push_to_hub(
        "me/mine", private=True, token="t", revision="dev", commit_message="why", create_pr=True
    )
    assert address == "https://hub/me/mine/commit/1"
    assert place.calls == [
        {"token": "t"},
        {"private": True, "exist_ok": True},
        {"commit_message": "why", "revision": "dev", "create_pr": True},
    ]
    again = PeftModel.from_pretrained(tiny("gpt2"), "me/mine")
    with torch.no_grad():
        assert torch.equal(again(**inputs("gpt2")).logits, model(**inputs("gpt2")).logits)
    assert (place.root / "me/mine/other/adapter_config.json").is_file()


def test_the_card_is_the_hubs_and_says_what_it_is(place: Place):
    model = adapted()
    model.push_to_hub("me/mine")
    card = huggingface_hub.ModelCard.load(place.root / "me/mine/README.md")
    assert card.data.base_model == "gpt2"
    assert card.data.library_name == "peft"
    assert card.data.tags == ["minipeft", "lora"]
    trained, _ = model.get_nb_trainable_parameters()
    assert f"{trained:,} parameters" in card.text
    assert "| r | `2` |" in card.text
    model.peft_config["default"].base_model_name_or_path = str(place.root)
    model.push_to_hub("me/mine")
    assert str(place.root) not in (place.root / "me/mine/README.md").read_text()


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MinipeftError, match=r"'me/mine'.*HF_HUB_OFFLINE is set.*save_pretrained"):
        adapted().push_to_hub("me/mine", token="t")
