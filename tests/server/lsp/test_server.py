"""The server's parts together, without a process: messages in, messages out, on one event loop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.completion.completer import Completer
from server.lsp.server import ForetypeServer
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins, ManualClock

URI = "file:///a.py"
OPTIONS = Options(engine="fake", debounce_ms=0, max_debounce_ms=0)


class Served:
    """A server that is handed messages, and what it wrote."""

    def __init__(self, engine: FakeEngine) -> None:
        plugins = FakePlugins()
        plugins.provide("engines", "fake", engine.as_plugin())
        self.written: list[dict[str, Any]] = []
        self.server = ForetypeServer({})
        self.server.protocol.set_writer(self)  # type: ignore[no-untyped-call]
        self.completer = Completer(
            OPTIONS, plugins, clock=ManualClock(), on_status=lambda status: None
        )
        self.server._completer = self.completer
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})

    def write(self, data: bytes) -> None:
        self.written.append(json.loads(data.split(b"\r\n\r\n", 1)[1]))

    def close(self) -> None:
        """Do nothing; pygls wants its writers to have it."""

    def tell(self, method: str, params: Any) -> None:
        self._receive({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> None:
        self._receive({"id": method, "method": method, "params": params})

    def answers(self, method: str) -> list[dict[str, Any]]:
        return [one for one in self.written if one.get("id") == method]

    def _receive(self, message: dict[str, Any]) -> None:
        self.server.protocol.receive(json.dumps({"jsonrpc": "2.0", **message}).encode())


async def test_a_document_closed_before_its_request_is_begun_is_not_remembered() -> None:
    """Both messages came in one turn of the loop; the request remembered what was forgotten, so
    that each such document stayed in memory until the end, with its text before the cursor.
    """
    served = Served(FakeEngine("x = 1"))
    served.completer.start()
    await served.completer.wait_ready()
    opened = {"uri": URI, "languageId": "python", "version": 1, "text": "x = "}
    served.tell("textDocument/didOpen", {"textDocument": opened})
    place = {
        "textDocument": {"uri": URI},
        "position": {"line": 0, "character": 4},
        "context": {"triggerKind": 2},
    }
    served.ask("textDocument/inlineCompletion", place)
    served.tell("textDocument/didClose", {"textDocument": {"uri": URI}})
    while not served.answers("textDocument/inlineCompletion"):
        await asyncio.sleep(0)
    (answer,) = served.answers("textDocument/inlineCompletion")
    assert answer["result"] == {"items": []}
    assert served.completer.requests[-1].reason == "the document was closed"
    assert served.completer.n_documents == 0
    await served.completer.close()


async def test_an_editor_that_is_initialized_twice_has_one_engine_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by the fuzzer: each time loaded a model of its own, and none was given back."""
    served = Served(FakeEngine())
    starts: list[int] = []

    async def start() -> None:
        starts.append(1)

    monkeypatch.setattr(served.server, "_start", start)
    for _ in range(3):
        served.tell("initialized", {})
    await asyncio.sleep(0)
    assert len(starts) == 1


async def test_a_notification_with_an_id_is_refused() -> None:
    """Found by the fuzzer: it was handled, and who asked waited for ever."""
    served = Served(FakeEngine())
    for method in ("textDocument/didClose", "exit", "initialized", "$/cancelRequest"):
        served.ask(method, {"textDocument": {"uri": URI}, "id": 1})
        assert [one["error"]["code"] for one in served.answers(method)] == [-32600]
