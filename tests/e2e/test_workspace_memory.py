"""A real server learns a real folder: what stands in one file is completed in another, and no more
once it is gone, ignored or switched off.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.client import PATIENCE_S, Client

pytestmark = pytest.mark.e2e

LIBRARY = """
def first(payload):
    return registered_quartz_handler(payload, retries=7)


def second(payload):
    return registered_quartz_handler(payload, retries=7)


def third(payload):
    return registered_quartz_handler(payload, retries=7)
"""
TYPED = "def run(payload):\n    return registered_quartz_"
REST = "handler(payload, retries=7)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a workspace with a file that says it, and others that must not be read."""
    (tmp_path / "library.py").write_text(LIBRARY, encoding="utf-8")
    (tmp_path / ".gitignore").write_text("ignored.py\n", encoding="utf-8")
    (tmp_path / "ignored.py").write_text("ignored = 1\n", encoding="utf-8")
    (tmp_path / ".env").write_text("KEY=1\n", encoding="utf-8")
    return tmp_path


def start(client: Client, folder: Path) -> str:
    uri = folder.as_uri()
    client.initialize(workspaceFolders=[{"uri": uri, "name": "w"}])
    client.wait_ready()
    return f"{uri}/main.py"


def known_files(client: Client) -> int:
    return int(client.request("foretype/status", None)["memory"]["nFiles"])


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end


def offered(client: Client, uri: str) -> str:
    items = client.complete(uri, 1, len(TYPED.split("\n")[1]))
    return str(items[0]["insertText"]) if items else ""


def test_another_file_speaks_until_it_is_deleted(folder: Path) -> None:
    with Client.start("--threads", "1", "--multi-line", "never") as client:
        uri = start(client, folder)
        until(lambda: known_files(client) == 1)  # The ignored and the secret file are not read.
        client.open(uri, TYPED)
        until(lambda: known_files(client) == 2)  # The document itself.
        assert REST in offered(client, uri)
        (folder / "library.py").unlink()
        event = {"uri": f"{folder.as_uri()}/library.py", "type": 3}
        client.notify("workspace/didChangeWatchedFiles", {"changes": [event]})
        assert known_files(client) == 1
        assert REST not in offered(client, uri)  # Not even as what was offered before.


LONG = "return registered_quartz_handler(payload, retries=7, backoff_s=0.25, give_up=quartz_failed)"


def test_a_long_copy_says_where_it_stands(folder: Path) -> None:
    text = "import os\n" + "".join(f"\n\ndef {name}(payload):\n    {LONG}\n" for name in "abc")
    (folder / "library.py").write_text(text, encoding="utf-8")
    with Client.start("--threads", "1", "--multi-line", "never") as client:
        uri = start(client, folder)
        until(lambda: known_files(client) == 1)
        client.open(uri, TYPED)
        until(lambda: known_files(client) == 2)
        (item,) = client.complete(uri, 1, len(TYPED.split("\n")[1]))
        assert TYPED.split("return ")[1] + item["insertText"] == LONG.removeprefix("return ")
        assert item["data"]["copiedFrom"]["path"] == "library.py"
        # Of three equal lines any may be named.
        assert text.split("\n")[item["data"]["copiedFrom"]["line"] - 1].strip() == LONG


def test_nothing_is_read_where_memory_is_the_document_s_own(folder: Path) -> None:
    with Client.start("--threads", "1", "--multi-line", "never", "--memory", "document") as client:
        uri = start(client, folder)
        client.open(uri, TYPED)
        assert REST not in offered(client, uri)
        assert known_files(client) == 0


def test_a_saved_file_is_current(folder: Path) -> None:
    with Client.start("--threads", "1", "--multi-line", "never") as client:
        uri = start(client, folder)
        until(lambda: known_files(client) == 1)
        text = LIBRARY.replace("retries=7", "attempts=9")
        (folder / "library.py").write_text(text, encoding="utf-8")
        event = {"uri": f"{folder.as_uri()}/library.py", "type": 2}
        client.notify("workspace/didChangeWatchedFiles", {"changes": [event]})

        def is_current() -> bool:  # Asked again in the same document, it would be remembered.
            client.open(f"{uri}.{next(numbers)}.py", TYPED)
            return "attempts=9" in offered(client, f"{uri}.{next(asked)}.py")

        numbers, asked = count(), count()
        until(is_current)


def test_reading_is_shown_and_the_client_is_asked_to_watch(folder: Path) -> None:
    capabilities = {
        "window": {"workDoneProgress": True},
        "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}},
    }
    with Client.start("--threads", "1") as client:
        uri = folder.as_uri()
        workspace = [{"uri": uri, "name": "w"}]
        capable = client.initialize(capabilities=capabilities, workspaceFolders=workspace)
        assert capable["textDocumentSync"]["save"]

        def kinds() -> list[str]:
            progress = client.notified("$/progress")
            return [p["value"]["kind"] for p in progress if "reading" in p["token"]]

        until(lambda: "end" in kinds())
        assert kinds()[0] == "begin"

        def registered() -> set[str]:
            asked = [r["params"] for r in client.requests if "register" in r["method"]]
            return {one["method"] for params in asked for one in params["registrations"]}

        until(lambda: "workspace/didChangeWatchedFiles" in registered())


def test_a_folder_that_is_deleted_takes_its_files_along(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "library.py").rename(folder / "lib/library.py")
    with Client.start("--threads", "1") as client:
        start(client, folder)
        until(lambda: known_files(client) == 1)
        shutil.rmtree(folder / "lib")
        event = {"uri": f"{folder.as_uri()}/lib", "type": 3}
        client.notify("workspace/didChangeWatchedFiles", {"changes": [event]})
        assert known_files(client) == 0


def test_a_file_that_a_saved_gitignore_names_falls_silent(folder: Path) -> None:
    """Told by the save alone: not every client watches files."""
    with Client.start("--threads", "1") as client:
        start(client, folder)
        until(lambda: known_files(client) == 1)
        (folder / ".gitignore").write_text("*.py\n", encoding="utf-8")
        saved = {"textDocument": {"uri": f"{folder.as_uri()}/.gitignore"}}
        client.notify("textDocument/didSave", saved)
        assert known_files(client) == 0


def test_a_client_that_watches_nothing_need_not_tell_of_a_deleted_file(folder: Path) -> None:
    """Neovim on Linux watches no files."""
    with Client.start("--threads", "1") as client:
        start(client, folder)
        until(lambda: known_files(client) == 1)
        (folder / "library.py").unlink()
        until(lambda: known_files(client) == 0)
