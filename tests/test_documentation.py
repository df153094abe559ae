"""What the pages say, runs: the README's code, its commands, its links, the committed outputs."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 4
    names = {}
    for code in blocks:
        exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "trainable params: " in printed
    assert sorted(p.name for p in (tmp_path / "my-lora").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert type(names["plain"]).__name__ == type(names["merged"]).__name__ == "GPT2LMHeadModel"
    assert "bits per weight" in printed
    assert names["model"].peft_config["both"].r == 16  # the ranks of two
    assert (tmp_path / "runs" / "checkpoint-20" / "adapter_model.safetensors").is_file()
    rows = names["answers"].tolist()
    assert len(rows) == 3
    assert rows[0] == rows[1] != rows[2]  # 0.7 + 0.3 of one adapter is that adapter


def test_the_readmes_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    pages = [README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")]
    used = {name for page in pages for name in re.findall(r"\bmake ([a-z-]+)", page)}
    assert {"lab", "test", "demo"} <= used
    assert used - {"without"} <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_table_names_every_lesson():
    lessons = sorted(p.name for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert re.findall(r"\(notebooks/(\d[^)]+)\)", README) == lessons  # pages may stand elsewhere


@pytest.mark.parametrize("folder", ["notebooks", "solutions"])
def test_no_committed_cell_shows_a_warning_or_an_error(folder):
    notebooks = sorted((ROOT / folder).glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                text = json.dumps(output)
                assert output["output_type"] != "error", (path.name, text[:300])
                assert output.get("name") != "stderr", (path.name, text[:300])
                assert "Warning" not in text, (path.name, text[:300])
