"""The http engine: completes text with a server that speaks OpenAI's `/v1/completions`.

Only used where the user chose `engine: http` and set `httpUrl`. Sends the text before the cursor
and what the context sources gave, nothing else; the standard API has no reliable place for the text
after the cursor. Knows neither token ids nor the protocol.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    FinishReason,
    OnProgress,
    TextDelta,
    untold,
)
from server.errors import EngineError
from server.options import Options

CONNECT_S = 5.0
"""Longest wait for a connection (guessed: a machine in reach answers in far less)."""
SILENCE_S = 30.0
"""Longest wait for the next piece: a cold model on a slow machine needs long for a prompt."""
KEY_VARIABLE = "FORETYPE_HTTP_KEY"
"""The environment variable whose value is sent as bearer token, where it is set."""

_CHARS_PER_TOKEN = 4
_CONTEXT_TOKENS = 2048
"""So much of the text before the cursor is sent, at four characters a token (guessed)."""
_WATCH_S = 0.05


@dataclass(frozen=True, slots=True)
class _Event:
    """One piece as the server sent it."""

    text: str
    logprob: float
    finish_reason: FinishReason | None


class HttpEngine(CompletionEngine):
    """Asks a completion server; one connection per request, closed on cancellation."""

    def __init__(self, url: str, model: str, key: str = "") -> None:
        """Check the address; opens no connection.

        Raises:
            EngineError: it is no http or https address.
        """
        self._url = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise EngineError(
                f"httpUrl is {url!r}, expected an address such as http://127.0.0.1:8080"
            )
        self._model = model
        self._key = key

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> HttpEngine:
        """Make the engine from `httpUrl` and `httpModel`."""
        if not options.http_url:
            raise EngineError("the http engine needs an address: set httpUrl")
        return cls(options.http_url, options.http_model, os.environ.get(KEY_VARIABLE, ""))

    @property
    def info(self) -> EngineInfo:
        """Which server is asked."""
        return EngineInfo(
            engine="http", model=self._model or "default", details={"server": self._url.netloc}
        )

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the text of the server's events."""
        started_s = time.perf_counter()
        try:
            with self._connected(cancel) as connection:
                for event in self._events(connection, request):
                    if not usage.new_tokens:
                        usage.prefill_ms = 1000 * (time.perf_counter() - started_s)
                    usage.new_tokens += 1
                    usage.finish_reason = event.finish_reason
                    if event.text:
                        yield TextDelta(text=event.text, logprob=event.logprob)
        except (OSError, http.client.HTTPException) as exc:
            if not cancel.is_cancelled:
                raise EngineError(
                    f"no answer from {self._address}: {exc or type(exc).__name__}; check httpUrl "
                    "and whether the server runs"
                ) from exc
        finally:
            spent_ms = 1000 * (time.perf_counter() - started_s)
            usage.decode_ms = spent_ms - usage.prefill_ms
        if cancel.is_cancelled:
            usage.finish_reason = "cancelled"

    @property
    def _address(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc}"

    @contextmanager
    def _connected(self, cancel: CancelToken) -> Iterator[http.client.HTTPConnection]:
        """Open a connection, which a cancellation closes even while it is read."""
        connection = _connection(self._url)
        connection.connect()
        connection.sock.settimeout(SILENCE_S)
        is_done = threading.Event()
        threading.Thread(
            target=_close_on_cancel, args=(connection.sock, cancel, is_done), daemon=True
        ).start()
        try:
            yield connection
        finally:
            is_done.set()
            connection.close()

    def _events(
        self, connection: http.client.HTTPConnection, request: EngineRequest
    ) -> Iterator[_Event]:
        """Send the request and yield what comes back.

        Raises:
            EngineError: the server refuses, or sends something that is no completion.
        """
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection.request("POST", _completions_path(self._url), self._body(request), headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise EngineError(
                f"{self._address} answered {response.status} {response.reason}; "
                "check httpUrl and httpModel"
            )
        if "text/event-stream" not in response.headers.get("Content-Type", ""):
            yield self._event(response.read())
            return
        for line in response:
            if line.startswith(b"data:"):
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                yield self._event(data)

    def _body(self, request: EngineRequest) -> bytes:
        prefix = request.prefix[-_CONTEXT_TOKENS * _CHARS_PER_TOKEN :]
        body: dict[str, Any] = {
            "prompt": request.context + prefix,
            "max_tokens": request.max_new_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.sampling.seed + request.candidate,
            "logprobs": 1,
            "stream": True,
        }
        if request.candidate and not request.sampling.temperature:
            body["temperature"] = 0.8  # Further candidates shall differ (guessed).
        if self._model:
            body["model"] = self._model
        if request.single_line:
            body["stop"] = ["\n"]
        return json.dumps(body).encode()

    def _event(self, data: bytes) -> _Event:
        """Read one event.

        Raises:
            EngineError: it is no completion.
        """
        try:
            said = json.loads(data)
            choice = said["choices"][0]
            text = choice.get("text") or ""
            if not isinstance(text, str):
                raise TypeError("the text is no text")
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise EngineError(
                f"{self._address} sent something that is no completion; check httpUrl"
            ) from exc
        is_cut = choice.get("finish_reason") == "length"
        reason: FinishReason | None = "stop" if choice.get("finish_reason") else None
        return _Event(text, _logprob(choice), "length" if is_cut else reason)


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    assert url.hostname is not None, "checked when the engine was made"
    return kind(url.hostname, url.port, timeout=CONNECT_S)


def _completions_path(url: SplitResult) -> str:
    """Return the path to ask: what the user gave, completed to `/v1/completions`."""
    path = url.path.rstrip("/")
    if not path.endswith("/completions"):
        path += "/completions" if path.endswith("/v1") else "/v1/completions"
    return path + (f"?{url.query}" if url.query else "")


def _logprob(choice: dict[str, Any]) -> float:
    """Return the log-probability of an event's tokens; 0 where the server gives none."""
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(values, list):
        return 0.0
    return float(sum(value for value in values if isinstance(value, int | float)))


def _close_on_cancel(sock: socket.socket, cancel: CancelToken, is_done: threading.Event) -> None:
    """Shut a socket down when a stop is asked for, so that a read that waits returns."""
    while not is_done.is_set():
        if cancel.wait(_WATCH_S):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # The other side was quicker.
            return
