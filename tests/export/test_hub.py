"""Downloads from the Hub, against a stand-in on the loopback: resumed, pinned, explained."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from export.hub import is_hub_name

COMMIT = "c0ffee" + "0" * 34
NAME = "somebody/tiny"
CHUNK_BYTES = 10 * 1024 * 1024  # huggingface_hub writes, and so resumes, in steps of this size
BIG_FILE = "model-of-another-form.safetensors"  # fetched by its name, read by nobody


class StandIn(ThreadingHTTPServer):
    """Speaks as much of the Hub as a download needs; breaks off where a test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.breaks_off_after: int | None = None
        self.downloads: list[tuple[str, str]] = []
        """File and range of each request for a file's content."""

    @property
    def address(self) -> str:
        """What HF_ENDPOINT shall be."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers for one checkpoint; a gated one and a missing one are known by name."""

    server: StandIn

    def log_message(self, *_args: Any) -> None:
        """Keep the test's output clean."""

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, *, with_content: bool) -> None:
        path = self.path.removeprefix("/api/models")
        if path.startswith("/somebody/gated"):
            self.refuse(403, "GatedRepo")
        elif not path.startswith(f"/{NAME}"):
            self.refuse(404, "RepoNotFound")
        elif path == self.path:
            self.send_file(path.rsplit("/", 1)[-1], with_content=with_content)
        elif "/revision/" in path and path.rsplit("/", 1)[-1] not in ("v1", COMMIT):
            self.refuse(404, "RevisionNotFound")
        else:
            self.send_listing()

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_listing(self) -> None:
        files = [{"rfilename": path.name} for path in self.server.folder.iterdir()]
        body = json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, name: str, *, with_content: bool) -> None:
        content = (self.server.folder / name).read_bytes()
        start = 0
        if with_content:
            wanted = self.headers.get("Range", "")
            self.server.downloads.append((name, wanted))
            start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{name}-{len(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_content:
            end = self.server.breaks_off_after if name == BIG_FILE else None
            self.wfile.write(content[start:end])


@pytest.fixture
def hub(own_checkpoint: Path) -> Iterator[StandIn]:
    (own_checkpoint / "README.md").write_text("not needed")
    (own_checkpoint / "pytorch_model.bin").write_bytes(b"never fetched")
    server = StandIn(own_checkpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(tmp_path: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Export in a process of its own: huggingface_hub reads its settings when it is imported."""
    settings = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    output = str(tmp_path / "bundle")
    return subprocess.run(
        [sys.executable, "-m", "export", *arguments, "--output", output],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.e2e
def test_broken_download_is_resumed_and_pinned_to_its_commit(hub: StandIn, tmp_path: Path) -> None:
    (hub.folder / BIG_FILE).write_bytes(bytes(2 * CHUNK_BYTES))
    hub.breaks_off_after = CHUNK_BYTES + 60_000
    first = run(tmp_path, hub.address, NAME, "--revision", "v1")

    assert first.returncode == 1
    assert "broke off" in error_of(first)
    assert "try again to resume" in error_of(first)
    assert not (tmp_path / "bundle").exists()

    hub.breaks_off_after = None
    hub.downloads.clear()
    second = run(tmp_path, hub.address, NAME, "--revision", "v1")

    assert second.returncode == 0, second.stderr
    assert (BIG_FILE, f"bytes={CHUNK_BYTES}-") in hub.downloads
    assert not {"README.md", "pytorch_model.bin"} & {name for name, _ in hub.downloads}
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    assert manifest["name"] == "tiny"
    assert manifest["source"]["checkpoint"] == NAME
    assert manifest["source"]["revision"] == COMMIT
    assert "Fetching 4 files: 100%" in second.stderr  # the progress bar


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["somebody/nothing"], "no folder somebody/nothing here and no checkpoint"),
        (["somebody/gated"], "asks for consent on the Hub"),
        ([NAME, "--revision", "v2"], "has no revision 'v2'"),
    ],
)
def test_what_the_hub_does_not_give_is_explained(
    hub: StandIn, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = run(tmp_path, hub.address, *arguments)

    assert done.returncode == 1
    assert reason in error_of(done)
    assert hub.downloads == []


@pytest.mark.e2e
def test_checkpoint_of_pickles_is_refused_before_a_download(hub: StandIn, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").unlink()

    done = run(tmp_path, hub.address, NAME)

    assert done.returncode == 1
    assert "has no model.safetensors" in error_of(done)
    assert hub.downloads == []


@pytest.mark.e2e
def test_hub_out_of_reach_says_what_to_do_instead(hub: StandIn, tmp_path: Path) -> None:
    address = hub.address
    hub.socket.close()

    done = run(tmp_path, address, NAME)

    assert done.returncode == 1
    assert "the Hub can't be reached" in error_of(done)
    assert "download the checkpoint elsewhere and give its folder" in error_of(done)


@pytest.mark.parametrize("name", ["gpt2", "bigcode/tiny_starcoder_py", "openai-community/gpt2"])
def test_hub_names_are_recognised(name: str) -> None:
    assert is_hub_name(name)


@pytest.mark.parametrize("name", ["", "/tmp/gpt2", "./gpt2", "../gpt2", "a/b/c", "~/gpt2", "a b"])
def test_paths_are_no_hub_names(name: str) -> None:
    assert not is_hub_name(name)
