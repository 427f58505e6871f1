"""A client of our own for real server processes: raw JSON-RPC, nothing is checked or hidden.

with Client.start("--engine", "echo") as client:
    client.initialize()
    client.open("file:///a.py", "x = ")
    items = client.complete("file:///a.py", 0, 4)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, BinaryIO, Self

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
PATIENCE_S = 60.0
"""Long enough for a loaded machine; nothing waits this long when all is well."""

Json = Any


class Client:
    """One conversation with a server, over a pair of streams."""

    def __init__(
        self,
        reader: BinaryIO,
        writer: BinaryIO,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.process = process
        self.notifications: list[dict[str, Json]] = []
        self.requests: list[dict[str, Json]] = []
        """What the server asked; answered at once, by `answers` or with null."""
        self.answers: dict[str, Json] = {}
        self.responses: dict[Json, list[dict[str, Json]]] = defaultdict(list)
        self.is_closed = False
        self._reader = reader
        self._writer = writer
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()
        self._n_requests = 0
        self._may_read = threading.Event()
        self._may_read.set()
        self._versions: dict[str, int] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def start(
        cls,
        *arguments: str,
        plugins: tuple[str, ...] = ("echo-engine", "scripted-engine"),
        environment: dict[str, str] | None = None,
        stderr: int | None = subprocess.DEVNULL,
    ) -> Client:
        """Start `python -m server` over stdio."""
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            env=server_environment(plugins) | (environment or {}),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        return cls(process.stdout, process.stdin, process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process if it still runs; a test that cares calls `shut_down`."""
        self._may_read.set()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._thread.join(PATIENCE_S)
        for stream in (self._writer, self._reader):
            try:
                stream.close()
            except OSError:  # What was buffered can't be delivered any more.
                continue
        if self.process is not None and self.process.stderr is not None:
            self.process.stderr.close()

    # Messages.

    def send_bytes(self, data: bytes) -> None:
        """Write to the server as it stands."""
        with self._write_lock:
            self._writer.write(data)
            self._writer.flush()

    def send(self, message: Json) -> None:
        """Send a message as it stands."""
        body = json.dumps(message).encode()
        self.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def notify(self, method: str, params: Json) -> None:
        """Send a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method: str, params: Json) -> int:
        """Send a request and return its id."""
        self._n_requests += 1
        request = {"jsonrpc": "2.0", "id": self._n_requests, "method": method, "params": params}
        self.send(request)
        return self._n_requests

    def response(self, msg_id: Json) -> dict[str, Json]:
        """Wait for the response to a request."""
        self.wait_for(lambda: self.responses.get(msg_id))
        return self.responses[msg_id][0]

    def request(self, method: str, params: Json) -> Json:
        """Send a request and return its result."""
        response = self.response(self.ask(method, params))
        assert "error" not in response, response["error"]
        return response["result"]

    def error(self, method: str, params: Json) -> int:
        """Send a request that is refused, and return the code."""
        response = self.response(self.ask(method, params))
        assert "error" in response, response
        code: int = response["error"]["code"]
        return code

    def wait_for(self, condition: Any) -> Any:
        """Wait until a condition on what came in holds, and return what it returned."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                assert not self.is_closed or condition(), "the server closed its output"
                assert left > 0, "the server did not say it"
                self._changed.wait(min(left, 0.5))
        return found

    def notified(self, method: str) -> list[Json]:
        """Return the parameters of the notifications of a method so far."""
        return [n.get("params") for n in list(self.notifications) if n["method"] == method]

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`; one message may still come through."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Read on."""
        self._may_read.set()

    # A conversation as editors have it.

    def initialize(
        self,
        options: Json = None,
        *,
        encodings: tuple[str, ...] = ("utf-16",),
        capabilities: dict[str, Json] | None = None,
        **params: Json,
    ) -> Json:
        """Initialize and return the server's capabilities."""
        result = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": "file:///workspace",
                "capabilities": {
                    "general": {"positionEncodings": list(encodings)},
                    **(capabilities or {}),
                },
                "initializationOptions": options,
                **params,
            },
        )
        self.notify("initialized", {})
        return result["capabilities"]

    def wait_ready(self) -> Json:
        """Wait until the model is loaded or can't be; return the status."""
        while (status := self.request("foretype/status", None))["state"] == "loading":
            time.sleep(0.01)
        return status

    def open(self, uri: str, text: str, language: str = "python") -> None:
        """Open a document."""
        self._versions[uri] = 1
        document = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})

    def edit(self, uri: str, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        """Replace what stands between two positions."""
        self._versions[uri] += 1
        span = {"start": position(*start), "end": position(*end)}
        document = {"uri": uri, "version": self._versions[uri]}
        changes = [{"range": span, "text": text}]
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def ask_completion(
        self, uri: str, line: int, character: int, *, trigger: int = 2, **more: Json
    ) -> int:
        """Send an inline-completion request and return its id."""
        params = {
            "textDocument": {"uri": uri},
            "position": position(line, character),
            "context": {"triggerKind": trigger},
        }
        return self.ask("textDocument/inlineCompletion", params | more)

    def complete(
        self, uri: str, line: int, character: int, *, trigger: int = 2, **more: Json
    ) -> list[Json]:
        """Return the items of a completion."""
        msg_id = self.ask_completion(uri, line, character, trigger=trigger, **more)
        response = self.response(msg_id)
        assert "error" not in response, response["error"]
        items: list[Json] = response["result"]["items"]
        return items

    def reason(self) -> str:
        """Return why the last request was offered nothing."""
        reason: str = self.request("foretype/status", None)["lastRequest"]["reason"]
        return reason

    def shut_down(self) -> int:
        """End the conversation properly and return the exit code."""
        assert self.process is not None
        self.request("shutdown", None)
        self.notify("exit", None)
        return self.process.wait(PATIENCE_S)

    def _read(self) -> None:
        try:
            while True:
                self._may_read.wait()
                message = self._read_message()
                if "method" in message and "id" in message:
                    self.requests.append(message)
                    answer = self.answers.get(message["method"])
                    self.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})
                with self._changed:
                    if "method" not in message:
                        self.responses[message["id"]].append(message)
                    elif "id" not in message:
                        self.notifications.append(message)
                    self._changed.notify_all()
        except (OSError, EOFError, ValueError):
            with self._changed:
                self.is_closed = True
                self._changed.notify_all()

    def _read_message(self) -> dict[str, Json]:
        length = None
        while line := self._reader.readline():
            if line == b"\r\n":
                break
            assert line.lower().startswith(b"content-"), f"not the protocol: {line!r}"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if length is None:
            raise EOFError
        message: dict[str, Json] = json.loads(self._reader.read(length))
        return message


def position(line: int, character: int) -> dict[str, int]:
    """Return a position as the protocol writes it."""
    return {"line": line, "character": character}


def server_environment(plugins: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of a server that finds the plugins of `tests/data`."""
    paths = [str(DATA / name) for name in plugins]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
