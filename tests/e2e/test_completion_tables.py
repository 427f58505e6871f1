"""Every case of the completion tables once more, through a real server over stdio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from server.options import Options, camel_case
from tests.completion_tables import Case, read_cases

ROOT = Path(__file__).parents[2]
CASES = read_cases()
PLUGIN = ROOT / "tests" / "data" / "scripted-engine"
DEFAULTS = {
    camel_case(f.name): getattr(Options(), f.name)
    for f in fields(Options)
    if not f.metadata["at_start"]
} | {"debounceMs": 0, "maxDebounceMs": 0}

pytestmark = pytest.mark.e2e


class Client:
    """A client that asks one thing after another."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._next_id = 0

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def request(self, method: str, params: Any) -> Any:
        """Return the result, and answer what the server asks meanwhile."""
        self._next_id += 1
        self._send({"id": self._next_id, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._next_id and "method" not in message:
                assert "error" not in message, message["error"]
                return message.get("result")
            if "id" in message:
                self._send({"id": message["id"], "result": None})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the server closed its output"
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        return message


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a folder in which git ignores a folder, wherever it is."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / ".gitignore").write_text("ignored/\n")
    return folder.as_uri()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, workspace: str) -> Iterator[Client]:
    script = tmp_path_factory.mktemp("script") / "script.json"
    pieces = [
        [[piece, 0.9] if isinstance(piece, str) else piece for piece in case.stream]
        for case in CASES
    ]
    script.write_text(json.dumps(pieces))
    environment = {
        **os.environ,
        "PYTHONPATH": str(PLUGIN),
        "FORETYPE_TEST_SCRIPT": str(script),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "--engine", "scripted"],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        opened = Client(process)
        opened.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": workspace,
                "workspaceFolders": [{"uri": workspace, "name": "workspace"}],
                "capabilities": {
                    "general": {"positionEncodings": ["utf-16"]},
                    "textDocument": {"inlineCompletion": {}},
                },
            },
        )
        opened.notify("initialized", {})
        while opened.request("foretype/status", None)["state"] == "loading":
            pass
        yield opened
        opened.request("shutdown", None)
        opened.notify("exit", None)
        assert process.wait(10) == 0


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def asked(case: Case, uri: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the parameters of the request, and the cursor's position."""
    before = case.text.partition("$0")[0]
    line, typed = before.count("\n"), before.rsplit("\n", 1)[-1]
    position = {"line": line, "character": units(typed)}
    context: dict[str, Any] = {"triggerKind": 1 if case.trigger == "invoked" else 2}
    if case.selected:
        word = typed[len(typed.rstrip("abcdefghijklmnopqrstuvwxyz")) :]
        start = {"line": line, "character": position["character"] - units(word)}
        span = {"start": start, "end": position}
        context["selectedCompletionInfo"] = {"range": span, "text": word + case.selected}
    params = {"textDocument": {"uri": uri}, "position": position, "context": context}
    return params, position


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_the_server_answers_what_the_table_says(client: Client, workspace: str, index: int) -> None:
    case = CASES[index]
    folder = f"{workspace}/case{index}" + ("/ignored" if case.ignored else "")
    uri = f"{folder}/{case.path or 'file'}"
    settings = {"foretype": {**DEFAULTS, **case.settings}}
    client.notify("workspace/didChangeConfiguration", {"settings": settings})
    text = case.text.replace("$0", "")
    document = {"uri": uri, "languageId": case.language, "version": 1, "text": text}
    client.notify("textDocument/didOpen", {"textDocument": document})
    params, position = asked(case, uri)
    answer = client.request("textDocument/inlineCompletion", params)
    items = answer["items"] if isinstance(answer, dict) else answer
    reason = client.request("foretype/status", None)["lastRequest"]["reason"]
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert reason == case.nothing
    assert len(items) == bool(case.expected)
    if items:
        line_end = "\r\n" if "\r\n" in case.text else "\n"
        replaced = case.request.suffix[: case.replaced]
        end = {**position, "character": position["character"] + units(replaced)}
        assert items[0]["insertText"] == case.expected.replace("\n", line_end)
        assert items[0]["range"] == {"start": position, "end": end}
