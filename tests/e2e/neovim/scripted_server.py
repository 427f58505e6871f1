"""A language server that says what a test tells it to, when the test tells it.

Does not know who connects.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 60.0

Message = dict[str, Any]


@dataclass
class Asked:
    """A request that the editor sent."""

    id: int
    params: Message

    @property
    def trigger(self) -> int:
        """1: on a key; 2: while typing."""
        return self.params["context"]["triggerKind"]


class ScriptedServer:
    """A language server that says what the test tells it to, when the test tells it.

    It keeps everything that the editor sent. Documents are whole texts, so that a test can see
    that what the server knows is what the editor shows.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[Message] = []
        self.documents: dict[str, str] = {}
        self._asked: queue.Queue[Asked] = queue.Queue()
        self._changed = threading.Condition()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def next_request(self) -> Asked:
        """Wait for the next request for completions."""
        return self._asked.get(timeout=TIMEOUT_S)

    @property
    def is_asked(self) -> bool:
        """Whether a request came that no test has taken yet."""
        return not self._asked.empty()

    def wait_for(self, method: str, n: int = 1) -> Message:
        """Return the parameters of the n-th message of this method, when it has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all(method)) >= n, TIMEOUT_S), method
            return self.all(method)[n - 1]

    def all(self, method: str) -> list[Message]:
        """Return the parameters of all messages of this method so far."""
        return [message.get("params") for message in self.received if message["method"] == method]

    def item(self, asked: Asked, text: str, id: str = "1", n_replaced: int = 0) -> Message:
        """Make an item that starts at the cursor of a request, as the protocol wants it."""
        start = asked.params["position"]
        end = {"line": start["line"], "character": start["character"] + n_replaced}
        return {
            "insertText": text,
            "range": {"start": start, "end": end},
            "command": {"title": "accepted", "command": "foretype.accepted", "arguments": [id]},
            "data": {"id": id, "confidence": 0.5},
        }

    def grow(self, asked: Asked, text: str) -> None:
        """Send the answer so far."""
        value = [self.item(asked, text)]
        params = {"token": asked.params["partialResultToken"], "value": value}
        self._send({"method": "$/progress", "params": params})

    def answer(self, asked: Asked, *texts: str) -> None:
        """Send the final answer: candidates, or the empty list after growing text."""
        items = [self.item(asked, text, str(i + 1)) for i, text in enumerate(texts)]
        self.reply(asked.id, {"items": items})

    def reply(self, id: int, result: Any) -> None:
        """Send a result as it stands."""
        self._send({"id": id, "result": result})

    def fail(self, asked: Asked, message: str) -> None:
        """Answer with an error."""
        self._send({"id": asked.id, "error": {"code": -32603, "message": message}})

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def hang_up(self) -> None:
        """Break the connection, as a server that was killed does."""
        with suppress(OSError):  # The editor was quicker.
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop serving."""
        self._listener.shutdown(socket.SHUT_RDWR)  # Wakes the thread out of accept().
        self._listener.close()
        self.hang_up()
        self._thread.join(TIMEOUT_S)

    def _send(self, message: Message) -> None:
        assert self._connection is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._listener.accept()
            except OSError:  # Closed by the test.
                return
            with closing(self._connection), self._connection.makefile("rb") as stream:
                try:
                    for message in _messages(stream):
                        self._take(message)
                except OSError:  # Hung up on.
                    continue

    def _take(self, message: Message) -> None:
        with self._changed:
            if "method" in message:
                self.received.append(message)
                self._answer_at_once(message)
                self._changed.notify_all()

    def _answer_at_once(self, message: Message) -> None:
        method, params = message["method"], message.get("params")
        if method == "initialize":
            capabilities = {
                "positionEncoding": "utf-16",
                "inlineCompletionProvider": {},
                "textDocumentSync": {"openClose": True, "change": 1},
                "executeCommandProvider": {"commands": ["foretype.accepted"]},
            }
            info = {"name": "scripted", "version": "1"}
            self.reply(message["id"], {"capabilities": capabilities, "serverInfo": info})
        elif method == "textDocument/inlineCompletion":
            self._asked.put(Asked(message["id"], params))
        elif method == "textDocument/didOpen":
            self.documents[params["textDocument"]["uri"]] = params["textDocument"]["text"]
        elif method == "textDocument/didChange":
            self.documents[params["textDocument"]["uri"]] = params["contentChanges"][-1]["text"]
        elif method == "foretype/status":
            self.reply(message["id"], {"state": "ready", "facts": ["ready", "scripted"]})
        elif "id" in message:
            self.reply(message["id"], None)


def _messages(stream: Any) -> Iterator[Message]:
    while header := stream.readline():
        length = int(header.removeprefix(b"Content-Length:"))
        while stream.readline() != b"\r\n":
            pass
        yield json.loads(stream.read(length))
