"""Where the time of a request goes: samples of a real server's stacks while a typist types.

The samples are py-spy's (https://github.com/benfred/py-spy), taken from outside: the server runs as
it does for a user, and only threads that work are counted. A sample counts for the innermost of our
own modules on the stack, so what a library does is its caller's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.figures import figure
from benchmarks.results import Recorder
from benchmarks.scenario import PAUSE_S, Passage
from benchmarks.typist import Screen, Typist
from server.bundle import Bundle

RATE_HZ = 500
"""Samples per second: a pass of the embedded model takes half a millisecond, and one in a hundred
must not be missed. Guessed."""
# The first that fits the innermost of our frames; each is a folder or a module of `server`.
PARTS = (
    ("forward passes", "backends/"),
    ("workspace memory", "decoding/memory/"),
    ("tokenizer", "decoding/tokenizer.py"),
    ("choice of tokens", "decoding/sampling.py"),
    ("choice of tokens", "decoding/healing.py"),
    ("choice of tokens", "decoding/prevention.py"),
    ("prefill and decode, around the passes", "decoding/"),
    ("engine: windows and prompts", "completion/engines/"),
    ("engine: windows and prompts", "completion/window.py"),
    ("filters and stop rules", "completion/filters/"),
    ("filters and stop rules", "completion/trimming.py"),
    ("filters and stop rules", "completion/stopping.py"),
    ("reading the workspace", "completion/workspace/"),
    ("completer: gates, reuse, scheduling", "completion/"),
    ("documents", "documents.py"),
    ("protocol: JSON, LSP, positions", "lsp/"),
    ("log", "logs.py"),
)
# Innermost frames of threads that wait; py-spy takes some of them for busy.
WAITING = (
    "Condition.wait (threading.py",
    "EpollSelector.select (selectors.py",
    "KqueueSelector.select (selectors.py",
    "_read_headers (server/lsp/framing.py",
)
LOOP = "event loop"
OTHER = "other"


def part_of(frames: Iterable[str]) -> str:
    """Return what a stack is busy with.

    Args:
        frames: outermost first, as py-spy writes them: `function (path:line)`.
    """
    stack = list(frames)
    for frame in reversed(stack):
        path = frame.rpartition("(")[2]
        _, found, inside = path.rpartition("server/")
        if not found or "site-packages" in path:
            continue
        for name, place in PARTS:
            if inside.startswith(place):
                # The passes of a prefill are another matter than those of decoding.
                is_prefill = name == "forward passes" and any(
                    one.startswith("prefill (") for one in stack
                )
                return f"{name}: prefill" if is_prefill else name
    return LOOP if any("asyncio" in frame or "selectors" in frame for frame in stack) else OTHER


def shares(raw: str) -> tuple[int, Mapping[str, float]]:
    """Return the number of samples of working threads, and the share of each part of them.

    Args:
        raw: py-spy's raw format: a line for each stack, frames apart by `;`, and its samples.

    Raises:
        BenchmarkError: there are no samples.
    """
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        if stack and not frames[-1].startswith(WAITING):
            counts[part_of(frames)] += int(samples)
    if not counts:
        raise BenchmarkError("no sample was taken; the server had nothing to do")
    total = counts.total()
    return total, {name: count / total for name, count in counts.most_common()}


def measure(
    recorder: Recorder,
    bundle: Bundle,
    file: Path,
    passage: Passage,
    settings: Mapping[str, Any],
    interval_ms: int,
    step: Callable[[str], None],
) -> None:
    """Type a passage into a real server that is sampled, and record where its time went.

    Raises:
        BenchmarkError: py-spy is missing, or may not look at the server.
    """
    if not program().is_file():
        raise BenchmarkError("py-spy is not installed (pip install foretype[bench])")
    server = ["-m", "server", "--stdio", "--model", str(bundle.folder)]
    with TemporaryDirectory() as folder, Client(server, dict(settings)) as client:
        client.initialize({"streaming": True, "status": True})
        client.wait_for_state("ready")
        screen = Screen(client, file.resolve().as_uri(), passage.prefix, passage.suffix)
        screen.open()
        typist = Typist(client, screen, step)
        typist.pause(PAUSE_S)
        output = Path(folder) / "samples.txt"
        with subprocess.Popen(
            [
                *(str(program()), "record", "--pid", str(client.process.pid)),
                *("--format", "raw", "--rate", str(RATE_HZ), "--output", str(output)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as spy:
            assert spy.stdout is not None
            said = spy.stdout.readline()  # It has begun.
            for line in passage.quick.splitlines(keepends=True):
                typist.type(line, interval_ms / 1e3)
                typist.pause(PAUSE_S)
            typist.finish()
            spy.send_signal(signal.SIGINT)
            said += spy.stdout.read()
        if not output.is_file():
            raise BenchmarkError(f"py-spy could not look at the server: {said.strip()}")
        raw = output.read_text(encoding="utf-8")
    n_requests = len(typist.keystrokes)
    n_samples, by_part = shares(raw)
    busy_ms = 1e3 * n_samples / RATE_HZ
    detail = f"{n_requests} requests, {n_samples} samples at {RATE_HZ} a second"
    recorder.figures.append(figure("server", "busy", "ms/request", [busy_ms / n_requests], detail))
    recorder.figures += [
        figure(name, "share", "", [share], f"{share * busy_ms / n_requests:.2f} ms a request")
        for name, share in by_part.items()
    ]


def program() -> Path:
    """Return where py-spy lies if it is installed beside this Python."""
    suffix = ".exe" if sys.platform == "win32" else ""
    return Path(sysconfig.get_path("scripts")) / f"py-spy{suffix}"
