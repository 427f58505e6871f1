"""How long a real server takes to recover from faults, each injected several times.

A fault is survived if completions come again, or, where the server is to end, if it ends and leaves
no process behind. `tests/e2e/test_faults.py` holds that it does; here it is timed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.client import INLINE_COMPLETION, Client
from benchmarks.errors import BenchmarkError
from benchmarks.faulty_engine import HANGS, RAISES, FaultyEngine
from benchmarks.figures import figure
from benchmarks.results import Recorder

PATIENCE_S = 60.0
ASK_AGAIN_S = 0.05
URI = "file:///faults/a.py"
SOUND = "total = "
INVOKED = 1

Fault = Callable[[Path], float]
"""Injects it once; returns the seconds until all is well again."""


def measure(recorder: Recorder, *, n_rounds: int, step: Callable[[str], None]) -> list[str]:
    """Inject every fault; add figures to the recorder and return what was not survived."""
    wrongs = []
    for name, fault in FAULTS.items():
        seconds: list[float] = []
        for _ in range(n_rounds):
            with tempfile.TemporaryDirectory(prefix="foretype-faults-") as folder:
                FaultyEngine.install(Path(folder))
                try:
                    seconds.append(fault(Path(folder)))
                except (BenchmarkError, TimeoutError, psutil.Error) as exc:
                    wrongs.append(f"{name}: {exc}")
            step(name)
        recorder.figures.append(figure(name, "injected", "", [float(n_rounds)]))
        recorder.figures.append(figure(name, "survived", "", [float(len(seconds))]))
        if seconds:
            values = [1000 * one for one in seconds]
            recorder.figures.append(figure(name, "recovery", "ms", values))
    return wrongs


AT_ONCE = ("--debounce-ms", "0", "--max-debounce-ms", "0")


def _client(folder: Path, process_id: int | None = None) -> Client:
    client = Client(
        ("-m", "server", "--engine", FaultyEngine.name, *AT_ONCE),
        environment={"PYTHONPATH": str(folder)},
    )
    client.initialize({"status": True}, process_id=process_id)
    client.wait_for_state("ready")
    return client


def _open(client: Client, text: str) -> None:
    item = {"uri": URI, "languageId": "python", "version": 1, "text": text}
    client.tell("textDocument/didOpen", {"textDocument": item})


def _complete(client: Client, text: str) -> bool:
    """Whether a completion comes at the end of a line."""
    params = {
        "textDocument": {"uri": URI},
        "position": {"line": 0, "character": len(text)},
        "context": {"triggerKind": INVOKED},
    }
    return bool(client.ask(INLINE_COMPLETION, params)["items"])


def _until_completed(client: Client, text: str) -> None:
    deadline_s = time.perf_counter() + PATIENCE_S
    _open(client, text)
    while not _complete(client, text):
        if time.perf_counter() > deadline_s:
            raise BenchmarkError("no completion comes any more")
        time.sleep(ASK_AGAIN_S)


def _engine_fails(folder: Path, text: str) -> float:
    with _client(folder) as client:
        _until_completed(client, SOUND)
        _open(client, text)
        started_s = time.perf_counter()
        _complete(client, text)
        _until_completed(client, SOUND + "3 + ")
        return time.perf_counter() - started_s


def _engine_raises(folder: Path) -> float:
    """Another place is completed after a request that failed."""
    return _engine_fails(folder, RAISES)


def _engine_hangs(folder: Path) -> float:
    """The watchdog waits ten seconds; then another engine goes on."""
    return _engine_fails(folder, HANGS)


def _half_a_message(folder: Path) -> float:
    """A wrong length swallows the next message; the one after it is answered."""
    with _client(folder) as client:
        _until_completed(client, SOUND)
        started_s = time.perf_counter()
        client.write_bytes(b'Content-Length: 30\r\n\r\n{"jsonrpc": "2.0", "id": 7, "m')
        client.write_bytes(b"nonsense\r\n\r\n")
        _until_completed(client, SOUND + "4 + ")
        return time.perf_counter() - started_s


def _server_is_killed(folder: Path) -> float:
    """The editor starts another and has a completion from it."""
    with _client(folder) as client:
        _until_completed(client, SOUND)
        started_s = time.perf_counter()
        client.process.kill()
    with _client(folder) as client:
        _until_completed(client, SOUND)
        return time.perf_counter() - started_s


def _editor_is_killed(folder: Path) -> float:
    """Its pipes stay open, as they do when its children hold them."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as editor:
        client = _client(folder, process_id=editor.pid)
        family = [client.process, *client.process.children(recursive=True)]
        started_s = time.perf_counter()
        editor.kill()
        editor.wait()
    return _until_gone(client, family, started_s)


def _terminated(folder: Path) -> float:
    """SIGTERM while it is idle; on Windows the process is ended."""
    client = _client(folder)
    family = [client.process, *client.process.children(recursive=True)]
    started_s = time.perf_counter()
    os.kill(client.process.pid, signal.SIGTERM)
    return _until_gone(client, family, started_s)


def _until_gone(client: Client, family: list[psutil.Process], started_s: float) -> float:
    while client.exit_code is None:
        if time.perf_counter() - started_s > PATIENCE_S:
            client.close()
            raise BenchmarkError("the server does not end")
        time.sleep(0.005)
    seconds = time.perf_counter() - started_s
    client.close()
    if orphans := [one for one in family if one.is_running()]:
        raise BenchmarkError(f"{len(orphans)} processes are left behind")
    return seconds


FAULTS: dict[str, Fault] = {
    "the engine raises": _engine_raises,
    "the engine hangs": _engine_hangs,
    "half a message": _half_a_message,
    "the server is killed": _server_is_killed,
    "the editor is killed": _editor_is_killed,
    "SIGTERM": _terminated,
}
