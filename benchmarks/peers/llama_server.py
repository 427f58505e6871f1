"""llama.cpp's server as a peer: a process of its own, asked over HTTP on the loopback interface.

llama-cpp-python's, as its users start it. It keeps the longest common prefix of the last prompt.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.errors import BenchmarkError
from server.bundle import Bundle

HOST = "127.0.0.1"
START_S = 120.0
LOOK_S = 0.05
ANSWER_S = 60.0
EXIT_S = 10.0
PACKAGES = ("llama_cpp", "uvicorn", "fastapi", "sse_starlette", "starlette_context", "gguf")


def why_absent() -> str:
    """Return why the server can't be started here; empty if nothing is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"no {', '.join(missing)} (pip install 'llama-cpp-python[server]' foretype[bench])"


class LlamaServer:
    """A running server; one connection is kept open."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_S)

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            BenchmarkError: it ended, or takes too long.
        """
        deadline_s = time.perf_counter() + START_S
        while time.perf_counter() < deadline_s and self._process.poll() is None:
            try:
                self._ask("GET", "/v1/models")
            except OSError:
                self._connection.close()
                time.sleep(LOOK_S)
            else:
                return
        raise BenchmarkError("llama.cpp's server did not start")

    def complete(self, prompt: str, max_tokens: int) -> tuple[str, int]:
        """Return the rest of the line, greedily, and how many tokens it took.

        Args:
            prompt: text before the cursor.
            max_tokens: at the most.
        """
        asked = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "top_k": 1,
            "repeat_penalty": 1.0,
            "stop": ["\n"],
        }
        answer = self._ask("POST", "/v1/completions", asked)
        return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]

    def close(self) -> None:
        """End the connection, then the process."""
        self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise BenchmarkError(f"llama.cpp's server answered {response.status}: {answer[:200]!r}")
        return json.loads(answer)


@contextmanager
def llama_server(bundle: Bundle, quantization: str, n_threads: int) -> Iterator[LlamaServer]:
    """Write a bundle's checkpoint as GGUF and serve it for the time of a block.

    Raises:
        BenchmarkError: the bundle has no checkpoint, or the server does not start.
    """
    from benchmarks.peers.gguf_file import write_gguf

    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no checkpoint")
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.gguf"
        write_gguf(bundle.checkpoint_path, bundle.tokenizer_path, path, quantization)
        port = _free_port()
        arguments = {
            "model": path,
            "host": HOST,
            "port": port,
            "n_ctx": bundle.manifest.spec.n_ctx,
            "n_threads": n_threads,
            "n_threads_batch": n_threads,
            "verbose": False,
        }
        command = [sys.executable, "-m", "llama_cpp.server"]
        command += [str(part) for name, value in arguments.items() for part in (f"--{name}", value)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        served = LlamaServer(port, process)
        try:
            served.wait_ready()
            yield served
        finally:
            served.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
