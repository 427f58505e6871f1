"""A client of a real server process: JSON-RPC over its stdin and stdout, every message timed.

Knows framing and requests, not what is typed or measured. Written against docs/protocol.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import psutil

from benchmarks.errors import BenchmarkError

ANSWER_S = 120.0
EXIT_S = 10.0
METHOD_NOT_FOUND = -32601
REQUEST_CANCELLED = -32800
INLINE_COMPLETION = "textDocument/inlineCompletion"

Json = Any


@dataclass(slots=True, eq=False, kw_only=True)
class Pending:
    """A request that was sent, and what came of it; times are `time.perf_counter`'s."""

    request_id: int
    sent_s: float
    cancelled_s: float | None = None
    answered_s: float = 0.0
    result: Json = None
    error: Mapping[str, Any] | None = None
    progress: list[tuple[float, list[dict[str, Any]]]] = field(default_factory=list)
    """When items came before the answer, and which."""
    is_answered: threading.Event = field(default_factory=threading.Event)


class Client:
    """Starts a server and talks to it. Use it as a context manager: at the end the server ends."""

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a process.

        Args:
            arguments: after the Python interpreter.
            settings: what `workspace/configuration` is answered.
            environment: what the process is given beside ours.
        """
        self.n_unasked = 0
        """Answers that nobody waited for, such as a second one to a request."""
        self.settings = dict(settings or {})
        self.statuses: list[tuple[float, dict[str, Any]]] = []
        """The states that the server told, and when."""
        self.started_s = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, **(environment or {})},
        )
        self._news = threading.Condition()
        self._pending: dict[int, Pending] = {}
        self._by_token: dict[str, Pending] = {}
        self._n_sent = 0
        self._errors: list[bytes] = []
        self._write_lock = threading.Lock()
        self._has_ended = False
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise AssertionError("all three were asked to be pipes")
        self._stdin = stdin
        self._threads = [
            threading.Thread(target=self._read, args=(stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # What is sent.

    def initialize(
        self,
        options: Mapping[str, Any],
        folder: Path | None = None,
        *,
        process_id: int | None = None,
    ) -> Json:
        """Shake hands; returns the server's capabilities. The server ends with `process_id`."""
        folder_uri = folder.as_uri() if folder is not None else None
        params = {
            "processId": process_id,
            "clientInfo": {"name": "foretype-benchmarks"},
            "rootUri": folder_uri,
            "capabilities": {
                "general": {"positionEncodings": ["utf-16"]},
                "workspace": {"configuration": True},
                "textDocument": {"inlineCompletion": {}},
            },
            "initializationOptions": dict(options),
        }
        answer = self.ask("initialize", params)
        self.tell("initialized", {})
        return answer

    def send(self, method: str, params: Json, token: str | None = None) -> Pending:
        """Send a request; the answer comes into what is returned.

        Raises:
            BenchmarkError: the server has ended.
        """
        self._n_sent += 1
        pending = Pending(request_id=self._n_sent, sent_s=time.perf_counter())
        with self._news:
            if self._has_ended:  # Its stdin may still take what nobody will read.
                raise BenchmarkError(f"the server has ended: {self.stderr_tail()}")
            self._pending[pending.request_id] = pending
            if token is not None:
                self._by_token[token] = pending
        self._write({"id": pending.request_id, "method": method, "params": params})
        return pending

    def ask(self, method: str, params: Json) -> Json:
        """Send a request and return its result.

        Raises:
            BenchmarkError: the server refused, ended or said nothing.
        """
        pending = self.send(method, params)
        self.wait(pending)
        if pending.error is not None:
            raise BenchmarkError(f"the server refused {method}: {pending.error}")
        return pending.result

    def tell(self, method: str, params: Json) -> None:
        """Send a notification."""
        self._write({"method": method, "params": params})

    def write_bytes(self, data: bytes) -> None:
        """Write to the server as it stands."""
        with self._write_lock:
            self._stdin.write(data)
            self._stdin.flush()

    def cancel(self, pending: Pending) -> None:
        """Ask for a request to be given up."""
        pending.cancelled_s = time.perf_counter()
        self.tell("$/cancelRequest", {"id": pending.request_id})

    # What is waited for.

    def wait(self, pending: Pending, timeout_s: float = ANSWER_S) -> None:
        """Wait for an answer.

        Raises:
            BenchmarkError: none came, or the server ended.
        """
        if not pending.is_answered.wait(timeout_s) or self._has_ended:
            raise BenchmarkError(f"the server did not answer: {self.stderr_tail()}")

    def wait_for_state(self, state: str, timeout_s: float = ANSWER_S) -> float:
        """Wait until the server has told a state; return when it first did.

        Raises:
            BenchmarkError: it did not, or told an error instead.
        """
        deadline_s = time.perf_counter() + timeout_s
        with self._news:
            while True:
                for when_s, status in self.statuses:
                    if status["state"] == state:
                        return when_s
                    if status["state"] == "error":
                        raise BenchmarkError(f"the server can't serve: {status['message']}")
                left_s = deadline_s - time.perf_counter()
                if left_s <= 0 or self._has_ended:
                    raise BenchmarkError(f"the server is not {state}: {self.stderr_tail()}")
                self._news.wait(min(left_s, 1.0))

    def resident_bytes(self) -> int:
        """Return the memory that the server's processes have resident."""
        process = psutil.Process(self._process.pid)
        family = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family)

    @property
    def process(self) -> psutil.Process:
        """The server's process."""
        return psutil.Process(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """What the server ended with; None while it runs."""
        return self._process.poll()

    def stderr_tail(self) -> str:
        """Return the last that the server wrote to stderr."""
        if self._has_ended:
            self._threads[1].join(EXIT_S)
        return b"".join(self._errors)[-500:].decode(errors="replace").strip() or "it said nothing"

    def close(self) -> None:
        """Shut the server down; end it if it does not end by itself."""
        if self._process.poll() is None:
            try:
                self.ask("shutdown", None)
                self.tell("exit", None)
                self._process.wait(EXIT_S)
            except (BenchmarkError, OSError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    # What comes in, on a thread of its own.

    def _read(self, stream: BinaryIO) -> None:
        while (body := read_body(stream)) is not None:
            now_s = time.perf_counter()
            message = json.loads(body)
            if "method" not in message:
                self._answered(message, now_s)
            elif "id" in message:
                self._asked(message)
            else:
                self._told(message, now_s)
        with self._news:
            self._has_ended = True
            for pending in self._pending.values():
                pending.is_answered.set()
            self._news.notify_all()

    def _answered(self, message: Mapping[str, Any], now_s: float) -> None:
        with self._news:
            pending = self._pending.pop(message["id"], None)
        if pending is None:
            self.n_unasked += 1
        else:
            pending.answered_s = now_s
            pending.result, pending.error = message.get("result"), message.get("error")
            pending.is_answered.set()

    def _asked(self, message: Mapping[str, Any]) -> None:
        answers: dict[str, Callable[[], Json]] = {
            "workspace/configuration": lambda: [self.settings for _ in message["params"]["items"]],
            "client/registerCapability": lambda: None,
            "window/workDoneProgress/create": lambda: None,
        }
        answer = answers.get(message["method"])
        if answer is None:
            error = {"code": METHOD_NOT_FOUND, "message": message["method"]}
            self._write({"id": message["id"], "error": error})
        else:
            self._write({"id": message["id"], "result": answer()})

    def _told(self, message: Mapping[str, Any], now_s: float) -> None:
        params: Json = message["params"]
        with self._news:
            if message["method"] == "foretype/status":
                self.statuses.append((now_s, params))
                self._news.notify_all()
            elif message["method"] == "$/progress":
                pending = self._by_token.get(params["token"])
                if pending is not None:
                    pending.progress.append((now_s, params["value"]))

    def _drain(self, stream: BinaryIO) -> None:
        for line in stream:
            self._errors.append(line)

    def _write(self, message: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode()
        try:
            with self._write_lock:
                self._stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                self._stdin.flush()
        except OSError as exc:
            raise BenchmarkError(f"the server has ended: {self.stderr_tail()}") from exc


def read_body(stream: BinaryIO) -> bytes | None:
    """Return the next message's body, or None at the end of the stream."""
    n_bytes = None
    while line := stream.readline():
        if line in (b"\r\n", b"\n"):
            if n_bytes is not None:
                body = stream.read(n_bytes)
                return body if len(body) == n_bytes else None
        elif line.lower().startswith(b"content-length:"):
            n_bytes = int(line.split(b":", 1)[1])
    return None
