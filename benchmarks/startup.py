"""From a process's start: to `initialize` answered, to the model ready, to the first ghost text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.client import Client
from benchmarks.figures import figure, ratio
from benchmarks.results import Recorder
from benchmarks.typist import Screen, first_text_s

BARE = "a bare pygls server"
SERVER = "server"
COLD_TOKENS = 1000
# The first ghost text is timed, not whether the network is sure of it.
SHOWS_ALL = {"minConfidence": 0.0}

Step = Callable[[str], None]


def measure_startup(
    recorder: Recorder, server: Sequence[str], cold_text: str, n_rounds: int, step: Step
) -> None:
    """Start the server and a bare one in turn; record figures and the ratio.

    Args:
        recorder: where to.
        server: arguments after the interpreter.
        cold_text: a document that no server has seen; the cursor is at its end.
        n_rounds: starts of each.
        step: is told of each start.

    Raises:
        BenchmarkError: a server does not start.
    """
    bare_ms, initialize_ms, ready_ms, first_ms = [], [], [], []
    for _ in range(n_rounds):
        step("starting a bare server")
        bare_ms.append(_bare_start())
        step("starting the server")
        initialized, ready, first = _cold_start(server, cold_text)
        initialize_ms.append(initialized)
        ready_ms.append(ready)
        if first is not None:
            first_ms.append(first)
    recorder.figures += [
        figure(BARE, "start_to_initialized", "ms", bare_ms),
        figure(SERVER, "start_to_initialized", "ms", initialize_ms),
        figure(SERVER, "start_to_ready", "ms", ready_ms),
    ]
    detail = f"a cold document of about {COLD_TOKENS} tokens, asked for at once"
    if first_ms:
        recorder.figures.append(figure(SERVER, "start_to_first_text", "ms", first_ms, detail))
    else:
        recorder.notes.append("no ghost text came for the cold document")
    recorder.ratios.append(ratio("start_to_initialized", SERVER, initialize_ms, BARE, bare_ms))


def _bare_start() -> float:
    with Client(["-m", "benchmarks.bare_server"]) as client:
        client.initialize({})
        return 1e3 * (time.perf_counter() - client.started_s)


def _cold_start(server: Sequence[str], text: str) -> tuple[float, float, float | None]:
    """Return milliseconds from the start to initialized, to ready, to the first ghost text."""
    with Client(server, SHOWS_ALL) as client:
        client.initialize({"streaming": True, "status": True})
        initialized_s = time.perf_counter()
        screen = Screen(client, "file:///benchmark/cold.py", text)
        screen.open()
        ready_s = client.wait_for_state("ready")
        pending = screen.request("cold", is_explicit=False)
        client.wait(pending)
        first_s = first_text_s(pending)
        started_s = client.started_s
    first_ms = None if first_s is None else 1e3 * (first_s - started_s)
    return 1e3 * (initialized_s - started_s), 1e3 * (ready_s - started_s), first_ms
