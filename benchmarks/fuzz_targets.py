"""What is fuzzed: each target takes any bytes and raises only where the program is wrong.

Bytes that begin as JSON does are taken as they are; others say how a template is to be changed.
Does not know who makes the bytes: a fuzzer, or the tests with those that once were found.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fuzz_json import almost, as_bytes
from server.backends.ort_graph import check_graph
from server.bundle import EMBEDDED_FOLDER, MANIFEST_FILE
from server.decoding.tokenizer import Tokenizer, byte_alphabet
from server.errors import BundleError
from server.lsp.framing import FramingError, OversizedMessageError, read_message
from server.lsp.server import ForetypeServer
from server.manifest import manifest_text, parse_manifest

Target = Callable[[bytes], None]
LONGEST_MESSAGE = 1 << 12
TURNS = 5
"""Of the event loop after each message; what answers at once needs two."""
N_VOCAB = 300


class FoundError(Exception):
    """The program broke a promise."""


class Sink:
    """Takes what the server writes."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        """Keep a message."""
        self.messages.append(json.loads(data.split(b"\r\n\r\n", 1)[1]))

    def close(self) -> None:
        """Do nothing; pygls wants its writers to have it."""


@cache
def _served() -> tuple[ForetypeServer, Sink, asyncio.AbstractEventLoop]:
    """Make one server for all inputs: to make one takes longer than to feed it.

    Its engine is one that there is not, so that nothing is loaded.
    """
    server, sink, loop = ForetypeServer({"engine": "none"}), Sink(), asyncio.new_event_loop()
    server.protocol.set_writer(sink)
    return server, sink, loop


URI = "file:///a.py"
DOCUMENT = {"uri": URI, "version": 2}
PLACE = {"line": 0, "character": 3}
SPAN = {"start": PLACE, "end": {"line": 1, "character": 0}}
CELL = {"kind": 2, "document": "cell:1"}
ITEM = {"insertText": "x", "range": SPAN, "data": {"id": "1"}, "command": {"arguments": ["1"]}}
OPENED = {"uri": URI, "languageId": "python", "version": 1, "text": "a\U0001f600\r\nb\n"}
ASKED = {"textDocument": DOCUMENT, "position": PLACE, "context": {"triggerKind": 1}}
NOTEBOOK = {"uri": "nb:1", "version": 1, "notebookType": "jupyter", "cells": [CELL]}
CELLS = {
    "structure": {"array": {"start": 0, "deleteCount": 1, "cells": [CELL]}, "didOpen": [OPENED]},
    "textContent": [{"document": DOCUMENT, "changes": [{"range": SPAN, "text": "y"}]}],
}
PARAMS: dict[str, Any] = {
    "textDocument/inlineCompletion": ASKED | {"partialResultToken": "t"},
    "textDocument/didOpen": {"textDocument": OPENED},
    "textDocument/didChange": {
        "textDocument": DOCUMENT,
        "contentChanges": [{"range": SPAN, "text": "x"}, {"text": "z"}],
    },
    "textDocument/didClose": {"textDocument": DOCUMENT},
    "textDocument/didSave": {"textDocument": DOCUMENT},
    "textDocument/didShowCompletion": {"item": ITEM},
    "textDocument/didPartiallyAcceptCompletion": {"item": ITEM, "acceptedLength": 1},
    "notebookDocument/didOpen": {"notebookDocument": NOTEBOOK, "cellTextDocuments": [OPENED]},
    "notebookDocument/didChange": {"notebookDocument": NOTEBOOK, "change": {"cells": CELLS}},
    "notebookDocument/didClose": {"notebookDocument": NOTEBOOK, "cellTextDocuments": [DOCUMENT]},
    "workspace/didChangeWorkspaceFolders": {
        "event": {"added": [{"uri": "file:///w", "name": "w"}], "removed": []}
    },
    "workspace/didChangeWatchedFiles": {"changes": [{"uri": URI, "type": 1}]},
    "workspace/didChangeConfiguration": {"settings": {"foretype": {"maxLines": 3}}},
    "workspace/executeCommand": {"command": "foretype.accepted", "arguments": ["1"]},
    "foretype/status": None,
    "foretype/requests": None,
    "foretype/tasks": None,
    "initialize": {"processId": None, "rootUri": None, "capabilities": {}},
    "initialized": {},
    "shutdown": None,
    "exit": None,
    "$/cancelRequest": {"id": 1},
}
INITIALIZE = b'{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"capabilities":{}}}'


def border(data: bytes) -> None:
    """Feed messages, one a line, to an initialized server; each id is answered as often as asked.

    Raises:
        FoundError: an answer is missing or too many, or a document's parts contradict each other.
    """
    server, sink, loop = _served()
    protocol = server.protocol
    protocol._shutdown = protocol._is_initialized = False
    server._exit_code = None
    for document in list(server.documents.store):
        server.documents.close(document.uri)
    sink.messages.clear()
    lines = [INITIALIZE, *map(_message, data.split(b"\n"))]
    loop.run_until_complete(_feed(server, lines))
    asked = Counter(key for line in lines if (key := _asked(line)) is not None)
    answered = Counter(json.dumps(one["id"]) for one in sink.messages if "method" not in one)
    answered.pop("null", None)  # To what could not be read.
    if asked != answered:
        raise FoundError(f"asked {dict(asked)}, answered {dict(answered)}")
    for document in server.documents.store:
        if len(document.text.encode("utf-16", "surrogatepass")) < 2 * document.n_chars:
            raise FoundError("a document counts more than it holds")


def _message(line: bytes) -> bytes:
    """Return a line that begins as JSON does; else the message that its bytes stand for."""
    if line[:1] in b"{[":
        return line
    methods = list(PARAMS)
    method = methods[line[0] % len(methods)]
    message = {"jsonrpc": "2.0", "method": method, "params": PARAMS[method]}
    if line[1:2] and line[1] % 2:
        message["id"] = line[1]
    return as_bytes(almost(message, line[2:]), line[2:])


async def _feed(server: ForetypeServer, lines: list[bytes]) -> None:
    for line in lines:
        server.protocol.receive(line)
        for _ in range(TURNS):
            await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _asked(line: bytes) -> str | None:
    """Return the id, as JSON, of what is a request or looks like one and is refused."""
    try:
        message = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    key = message.get("id") if isinstance(message, dict) else None
    if not isinstance(key, str | int) or isinstance(key, bool):
        return None
    is_well_formed = message.get("jsonrpc") == "2.0" and isinstance(message.get("method", ""), str)
    is_answer = "result" in message or "error" in message
    is_asked = "method" in message if is_well_formed else not is_answer
    return json.dumps(key) if is_asked else None


def framing(data: bytes) -> None:
    """Read messages until the stream ends, as from a pipe and as from a socket."""
    for is_strict in (False, True):
        stream = io.BytesIO(data)
        while True:
            try:
                body = read_message(stream, is_strict=is_strict, max_bytes=LONGEST_MESSAGE)
            except OversizedMessageError:
                continue
            except (EOFError, FramingError):
                break
            if len(body) > LONGEST_MESSAGE:
                raise FoundError(f"a message of {len(body)} bytes was read")


def _json_of(data: bytes, template: Any) -> bytes:
    return data if data[:1] in b"{[" else as_bytes(almost(template, data), data)


@cache
def _manifest_template() -> Any:
    return json.loads((EMBEDDED_FOLDER / MANIFEST_FILE).read_text(encoding="utf-8"))


def _tokenizer_template() -> Any:
    """Return the smallest tokenizer that has all parts: a token per byte, a merge, a special."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = {"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 257, "content": "<|end|>", "special": True, **flags}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level | {"use_regex": True},
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "byte_fallback": False,
            "vocab": byte_alphabet() | {"ab": 256},
            "merges": [["a", "b"]],
        },
    }


def manifest(data: bytes) -> None:
    """Read a manifest; one that is read is read again from what is written of it."""
    text = _json_of(data, _manifest_template()).decode("utf-8", "replace")
    try:
        read = parse_manifest(text, Path("manifest.json"))
    except BundleError:
        return
    if parse_manifest(manifest_text(read), Path("manifest.json")) != read:
        raise FoundError("a manifest that was written is read otherwise")


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="foretype-fuzz-"))


def tokenizer(data: bytes) -> None:
    """Read a tokenizer; one that is read gives ids inside the vocabulary, and no special ones."""
    path = _folder() / "fuzzed.json"
    path.write_bytes(_json_of(data, _tokenizer_template()))
    try:
        read = Tokenizer.from_file(path, N_VOCAB)
    except BundleError:
        return
    ids = read.encode("def first(x):\n    return x")
    if any(not 0 <= one < N_VOCAB or one in read.special_ids for one in ids):
        raise FoundError(f"ids {ids} of a vocabulary of {N_VOCAB}")
    if len(read.token_bytes) != N_VOCAB:
        raise FoundError("a vocabulary of another size")


def graph(data: bytes) -> None:
    """Look through an ONNX file, before onnxruntime would."""
    path = _folder() / "fuzzed.onnx"
    path.write_bytes(data)
    try:
        check_graph(path)
    except BundleError:
        return


TARGETS: dict[str, Target] = {
    "border": border,
    "framing": framing,
    "manifest": manifest,
    "tokenizer": tokenizer,
    "graph": graph,
}
