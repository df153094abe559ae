"""The hub over HTTP: a server on this machine answers what huggingface_hub asks of the real one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIG, WEIGHTS, adapted, output

COMMIT = "a" * 40
CLIENT = """
import sys
import huggingface_hub.constants  # reads the environment, before conftest says that it is offline
sys.path.insert(0, {tests!r})
from conftest import output, tiny
from minipeft import MinipeftError, PeftModel
try:
    model = PeftModel.from_pretrained(tiny("gpt2"), {name!r}, {options})
    print("loaded", output(model, "gpt2").double().sum().item())
except MinipeftError as error:
    print(type(error).__name__, error)
"""


class Hub(BaseHTTPRequestHandler):
    """One repository, org/lora, with an adapter in it and one in the folder `fr`; branch `old`."""

    root: Path
    asked: list[str]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        """`/api/models/...` lists the files; `/org/lora/resolve/...` gives one."""
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path in ("/api/models/org/lora/revision/main", "/api/models/org/lora/revision/old"):
            told = {"id": "org/lora", "sha": COMMIT}
            return self.give(json.dumps(told).encode(), "application/json")
        if path == f"/api/models/org/lora/tree/{COMMIT}":
            files = [
                {
                    "type": "file",
                    "path": p.relative_to(self.root).as_posix(),
                    "size": p.stat().st_size,
                    "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                }
                for p in sorted(self.root.rglob("*.*"))
            ]
            return self.give(json.dumps(files).encode(), "application/json")
        start = f"/org/lora/resolve/{COMMIT}/"
        file = self.root / path.removeprefix(start)
        if path.startswith(start) and file.is_file():
            return self.give(file.read_bytes(), "application/octet-stream")
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root = tmp_path_factory.mktemp("hub")
    adapted("gpt2").save_pretrained(root)
    adapted("gpt2", lora_alpha=64).save_pretrained(root / "fr")
    (root / "huge.ckpt").write_bytes(b"x")  # is not asked for
    Hub.root, Hub.asked = root, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def client(port: int, home: Path, name: str, options: str = "") -> str:
    """What a process says that loads `name` from the hub at this port."""
    script = CLIENT.format(tests=str(Path(__file__).parents[1]), name=name, options=options)
    online = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
    }
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **online}
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def total(**options: Any) -> float:
    """What the adapter's answer adds up to."""
    return float(output(adapted("gpt2", **options), "gpt2").double().sum())


@pytest.mark.slow
def test_an_adapter_comes_from_the_hub(hub: Any, tmp_path: Path):
    port = hub.server_address[1]
    said = client(port, tmp_path, "org/lora")
    assert float(said.removeprefix("loaded ")) == pytest.approx(total())
    fetched = [path for path in Hub.asked if path.startswith("GET /org/lora/resolve")]
    assert sorted(path.rsplit("/", 1)[-1] for path in fetched) == [CONFIG, WEIGHTS]
    assert any("revision/main" in path for path in Hub.asked)
    said = client(port, tmp_path, "org/lora", 'subfolder="fr", revision="old"')
    assert float(said.removeprefix("loaded ")) == pytest.approx(total(lora_alpha=64))
    assert any("revision/old" in path for path in Hub.asked)


@pytest.mark.slow
def test_what_the_hub_lacks_is_named(hub: Any, tmp_path: Path):
    port = hub.server_address[1]
    said = client(port, tmp_path, "org/nothing")
    assert said.startswith("CheckpointNotFoundError there is no folder 'org/nothing', and it could")
    said = client(port, tmp_path, "org/lora", 'revision="v9"')
    assert "hub at revision 'v9' (" in said
    said = client(port, tmp_path, "org/lora", 'subfolder="de"')
    assert "'org/lora' on the hub has no adapter_config.json in its folder 'de'" in said
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        said = client(free.getsockname()[1], tmp_path / "new", "org/lora")
    assert said.startswith(
        "CheckpointNotFoundError there is no folder 'org/lora', and it could not"
    )
