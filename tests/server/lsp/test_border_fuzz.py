"""The JSON-RPC border against anything: it never raises, and answers what has an id once."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.lsp.server import ForetypeServer

METHODS = (
    "textDocument/inlineCompletion",
    "textDocument/didOpen",
    "textDocument/didChange",
    "textDocument/didClose",
    "textDocument/didShowCompletion",
    "textDocument/didPartiallyAcceptCompletion",
    "notebookDocument/didOpen",
    "notebookDocument/didChange",
    "notebookDocument/didClose",
    "workspace/didChangeWorkspaceFolders",
    "workspace/didChangeWatchedFiles",
    "workspace/executeCommand",
    "foretype/status",
    "foretype/requests",
    "$/cancelRequest",
    "no/such",
)
KEYS = (
    "textDocument", "uri", "position", "line", "character", "contentChanges", "range", "text",
    "notebookDocument", "cells", "change", "changes",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
IDS = st.integers() | st.text(max_size=5)
BOUNDED = settings(max_examples=60)


class Sink:
    """Takes what the server writes."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.messages.append(json.loads(data.split(b"\r\n\r\n", 1)[1]))

    def close(self) -> None:
        pass


@cache
def served() -> tuple[ForetypeServer, Sink]:
    server, sink = ForetypeServer({}), Sink()
    server.protocol.set_writer(sink)  # type: ignore[no-untyped-call]
    params = {"processId": None, "capabilities": {}, "rootUri": None}
    message = {"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": params}
    server.protocol.receive(json.dumps(message).encode())
    return server, sink


def initialized() -> tuple[ForetypeServer, Sink]:
    """Return one server for all: what it was sent before must not matter."""
    server, sink = served()
    sink.messages.clear()
    return server, sink


@BOUNDED
@given(st.binary(max_size=60))
@example(b"\xff")
@example(b"[" * 5000)
@example(b'{"jsonrpc":"2.0","id":1e400,"method":"x"}')
def test_bytes_of_any_kind_are_refused_once_and_never_raise(body: bytes) -> None:
    server, sink = initialized()
    server.protocol.receive(body)
    assert len(sink.messages) <= 1


@BOUNDED
@given(IDS, st.sampled_from(METHODS), JSON)
def test_a_request_of_any_shape_is_answered_exactly_once(
    msg_id: Any, method: str, params: Any
) -> None:
    server, sink = initialized()
    message = {"jsonrpc": "2.0", "id": msg_id, "method": method, "params": params}
    server.protocol.receive(json.dumps(message).encode())
    assert [one["id"] for one in sink.messages if "id" in one] == [msg_id]


@BOUNDED
@given(st.lists(st.tuples(st.sampled_from(METHODS), JSON), max_size=4))
def test_a_notification_of_any_shape_is_never_answered(told: list[tuple[str, Any]]) -> None:
    server, sink = initialized()
    for method, params in told:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        server.protocol.receive(json.dumps(message).encode())
    assert [one for one in sink.messages if "id" in one] == []
