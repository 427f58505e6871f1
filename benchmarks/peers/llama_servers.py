"""llama.cpp's servers as processes on this machine: the same weights as GGUF, asked over HTTP.

Two programs: `llama-server` of llama.cpp itself, if it is on the PATH, and the server of
llama-cpp-python, if it is installed with what its server needs. Both keep the KV cache of the last
prompt and compute only what differs from it.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.errors import BenchmarkError

LOOPBACK = "127.0.0.1"
START_S = 120.0
ANSWER_S = 120.0
EXIT_S = 10.0
BINARY = "llama-server"
NEEDED = ("llama_cpp", "fastapi", "uvicorn", "sse_starlette", "starlette_context")


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServerKind:
    """One of the two programs."""

    name: str
    why_not: Callable[[], str]
    """Why it can't run here; empty: it can."""
    command: Callable[[Path, int, int, int], list[str]]
    """From the model, context, threads and port to what is started."""
    greedy: Mapping[str, Any] = field(default_factory=dict)
    """What a request says beside prompt, length and temperature."""


def _native_command(model: Path, n_ctx: int, n_threads: int, port: int) -> list[str]:
    threads = str(n_threads)
    sizes = ["--ctx-size", str(n_ctx), "--threads", threads, "--threads-batch", threads]
    place = ["--host", LOOPBACK, "--port", str(port)]
    return [BINARY, "--model", str(model), *sizes, "--parallel", "1", *place]


def _python_command(model: Path, n_ctx: int, n_threads: int, port: int) -> list[str]:
    threads = str(n_threads)
    sizes = ["--n_ctx", str(n_ctx), "--n_threads", threads, "--n_threads_batch", threads]
    # Logits of all positions are what it computes unless told otherwise: slower, and of no use
    # here. Its own --cache copies the whole state at each request; the last prompt stays anyway.
    quick = ["--logits_all", "False", "--verbose", "False"]
    place = ["--host", LOOPBACK, "--port", str(port)]
    return [sys.executable, "-m", "llama_cpp.server", "--model", str(model), *sizes, *quick, *place]


def _why_not_native() -> str:
    return "" if shutil.which(BINARY) else f"there is no {BINARY} on the PATH"


def _why_not_python() -> str:
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    advice = "pip install 'llama-cpp-python[server]', which compiles for minutes"
    return f"{', '.join(absent)} not installed ({advice})" if absent else ""


NATIVE = LlamaServerKind(
    name="llama-server Q8_0",
    why_not=_why_not_native,
    command=_native_command,
    greedy={"cache_prompt": True},
)
PYTHON = LlamaServerKind(
    name="llama-cpp-python's server Q8_0",
    why_not=_why_not_python,
    command=_python_command,
    greedy={"top_k": 1, "repeat_penalty": 1.0},
)
KINDS = (NATIVE, PYTHON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a server said."""

    text: str
    n_prompt: int
    n_new: int
    n_prefilled: int | None
    """Tokens of the prompt that were not in its cache; None: it does not say."""


class LlamaServer:
    """A running server. Use it as a context manager: at the end the process ends."""

    def __init__(
        self, kind: LlamaServerKind, model: Path, *, n_ctx: int, n_threads: int, log: Path
    ) -> None:
        """Start it and wait until it answers.

        Args:
            kind: which.
            model: a GGUF file.
            n_ctx: tokens of a prompt and its answer.
            n_threads: for prompts and for decoding.
            log: what it prints goes there.

        Raises:
            BenchmarkError: it does not start; with the last that it printed.
        """
        self.kind = kind
        self._log = log
        port = free_port()
        with log.open("wb") as printed:
            self._process = subprocess.Popen(
                kind.command(model, n_ctx, n_threads, port),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_S)
        try:
            self._wait()
        except BenchmarkError:
            self.close()
            raise

    def __enter__(self) -> LlamaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process(self) -> psutil.Process:
        """The server's process."""
        return psutil.Process(self._process.pid)

    def complete(self, prompt: str, max_tokens: int, stop: Sequence[str]) -> Completion:
        """Complete greedily.

        Raises:
            BenchmarkError: it refuses or ends.
        """
        body = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            **({"stop": list(stop)} if stop else {}),
            **self.kind.greedy,
        }
        answer = self._ask("POST", "/v1/completions", json.dumps(body).encode())
        usage = answer["usage"]
        return Completion(
            text=answer["choices"][0]["text"],
            n_prompt=usage["prompt_tokens"],
            n_new=usage["completion_tokens"],
            n_prefilled=answer.get("timings", {}).get("prompt_n"),
        )

    def reconnect(self) -> None:
        """Begin a new connection with the next request: a server closes one that is idle."""
        self._connection.close()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        deadline_s = time.perf_counter() + START_S
        while True:
            try:
                self._ask("GET", "/v1/models")
                return
            except BenchmarkError as exc:
                if self._process.poll() is not None or time.perf_counter() > deadline_s:
                    raise BenchmarkError(f"{self.kind.name} does not start: {exc}") from exc
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            read = response.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise BenchmarkError(f"{exc!r}; {self._last_printed()}") from exc
        if response.status != http.client.OK:
            raise BenchmarkError(f"{self.kind.name} answers {response.status}: {read[:200]!r}")
        return json.loads(read)

    def _last_printed(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-300:]


def free_port() -> int:
    """Return a port of the loopback that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])
