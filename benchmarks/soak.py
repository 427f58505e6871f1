"""Hours of typing in minutes: a real server, an editor that never rests, and what both hold then.

`soak_editor` acts and finds what is wrong; here the server is started, measured and ended. The
memory of the first minute is that of filling caches, so growth is counted from there.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.checked_server import HELD
from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, figure
from benchmarks.instant_engine import InstantEngine
from benchmarks.results import Recorder
from benchmarks.soak_editor import Editor

WARM_S = 60.0
"""Not counted as growth; of a shorter soak, half."""
SAMPLES = 120
"""Looks at the server's memory."""
LAST_SHARE = 0.2
"""Of the samples after the warming; the median of the first and of the last are compared."""
KEY_S = 0.15
"""Between two keys of a person, for what the actions would have taken. Quoted: BENCHMARKS, 200 ms
between keys of an average typist; this is a quick one."""
MAX_GROWTH = 0.05
SLACK_FILES = SLACK_TASKS = 2
SLACK_THREADS = 2 + 2 * (os.cpu_count() or 1)
"""The tokenizer and the sorter of the suffix array each make a pool of a thread per core once, when
the workspace is first learned; in a short soak that is after the first looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server to be soaked."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the server held at one moment."""

    at_s: float
    n_requests: int
    resident_mb: float
    threads: int
    files: int
    tasks: int
    closed_kept: int = 0
    """Documents that were closed and are remembered nevertheless."""


def fake_subject() -> Subject:
    """Return the server with an engine that has no model."""
    return Subject(name="without a model", arguments=("--engine", InstantEngine.name))


def model_subject(name: str, folder: Path, n_threads: int) -> Subject:
    """Return the server with a bundle."""
    arguments = ("--model", str(folder), "--threads", str(n_threads))
    return Subject(name=name, arguments=arguments)


def soak(
    recorder: Recorder,
    subject: Subject,
    *,
    seconds: float,
    seed: int,
    step: Callable[[str], None],
) -> list[str]:
    """Soak one server; add its figures to the recorder and return what went wrong.

    Raises:
        BenchmarkError: the server ended or stopped answering.
    """
    with tempfile.TemporaryDirectory(prefix="foretype-soak-") as name:
        folder = Path(name)
        InstantEngine.install(folder)
        log = folder / "server.log"
        arguments = ("-m", "benchmarks.checked_server", *subject.arguments, "--log-file", str(log))
        with Client(arguments, environment={"PYTHONPATH": name}) as client:
            client.initialize({"streaming": True, "status": True})
            client.wait_for_state("ready")
            editor = Editor(client, seed)
            samples = _run(client, editor, seconds, lambda: step(subject.name))
            family = [client.process, *client.process.children(recursive=True)]
            started_s = time.perf_counter()
        end_s = time.perf_counter() - started_s
        orphans = [one for one in family if one.is_running() and _is_alive(one)]
        told = log.read_text(encoding="utf-8", errors="replace") + client.stderr_tail()
    findings = editor.findings
    counts = {
        "requests": findings.n_requests,
        "unanswered": findings.n_requests - findings.n_answers,
        "answered_twice": client.n_unasked,
        "texts_compared": findings.n_checked,
        "lost_edits": findings.lost_edits,
        "old_answers": findings.old_answers,
        "flicker": findings.flickers,
        "errors": len(findings.errors),
        "tracebacks": told.count("Traceback") + told.count(" ERROR "),
        "orphans": len(orphans),
        "closed_kept": max(sample.closed_kept for sample in samples),
        "exit_code": client.exit_code or 0,
        "cancelled": findings.n_cancelled,
        "with_text": findings.n_with_text,
    }
    growth = grown(samples)
    recorder.figures += _figures(subject.name, counts, growth, samples, end_s, findings.actions)
    recorder.raw[subject.name] = {
        "counts": counts,
        "actions": dict(findings.actions),
        "samples": [asdict(sample) for sample in samples],
        "errors": findings.errors[:20],
    }
    return wrongs(counts, growth)


def _run(client: Client, editor: Editor, seconds: float, step: Callable[[], None]) -> list[Sample]:
    started_s = time.perf_counter()
    samples: list[Sample] = []
    while (at_s := time.perf_counter() - started_s) < seconds:
        if at_s >= len(samples) * seconds / SAMPLES:
            samples.append(_sample(client, editor, at_s))
            step()
        editor.act()
    editor.finish()
    samples.append(_sample(client, editor, time.perf_counter() - started_s))
    return samples


def _sample(client: Client, editor: Editor, at_s: float) -> Sample:
    held = client.ask(HELD, None)
    process = client.process
    files = process.num_fds() if psutil.POSIX else process.num_handles()
    return Sample(
        at_s=at_s,
        n_requests=editor.findings.n_requests,
        resident_mb=client.resident_bytes() / 2**20,
        threads=process.num_threads(),
        files=files,
        tasks=held["tasks"] - held["running"],
        closed_kept=max(0, held["remembered"] - held["documents"]),
    )


def grown(samples: Sequence[Sample]) -> dict[str, float]:
    """Return how much more the server held at the end than after the warming.

    Memory as a share, all else as a number; medians of the first and last samples after it.

    Raises:
        BenchmarkError: there are too few samples.
    """
    whole_s = samples[-1].at_s
    warm = [one for one in samples if one.at_s >= min(WARM_S, whole_s / 2)]
    if len(warm) < 2:
        raise BenchmarkError("the soak was too short to tell growth")
    n = max(1, int(LAST_SHARE * len(warm)))

    def ends(name: str) -> tuple[float, float]:
        values = [getattr(one, name) for one in warm]
        return statistics.median(values[:n]), statistics.median(values[-n:])

    first, last = ends("resident_mb")
    n_requests = samples[-1].n_requests - warm[0].n_requests
    return {
        "resident_share": last / first - 1,
        "resident_kb_per_1000": 1024 * (last - first) / max(n_requests / 1000, 1e-9),
        **{name: ends(name)[1] - ends(name)[0] for name in ("threads", "files", "tasks")},
    }


def wrongs(counts: dict[str, int], growth: dict[str, float]) -> list[str]:
    """Return a sentence for each bound that does not hold."""
    zero = (
        "unanswered",
        "answered_twice",
        "lost_edits",
        "old_answers",
        "flicker",
        "errors",
        "tracebacks",
        "orphans",
        "closed_kept",
        "exit_code",
    )
    told = [f"{name}: {counts[name]}, must be 0" for name in zero if counts[name]]
    if growth["resident_share"] >= MAX_GROWTH:
        told.append(f"memory grew by {growth['resident_share']:.1%}, the bound is {MAX_GROWTH:.0%}")
    slack = {"threads": SLACK_THREADS, "files": SLACK_FILES, "tasks": SLACK_TASKS}
    told += [
        f"{name} grew by {growth[name]:g}" for name, most in slack.items() if growth[name] > most
    ]
    return told


def _figures(
    subject: str,
    counts: dict[str, int],
    growth: dict[str, float],
    samples: Sequence[Sample],
    end_s: float,
    actions: dict[str, int],
) -> list[Figure]:
    hours = sum(actions.values()) * KEY_S / 3600
    values: list[tuple[str, str, list[float]]] = [
        *((name, "", [float(value)]) for name, value in counts.items()),
        ("requests_per_second", "1/s", [counts["requests"] / samples[-1].at_s]),
        ("typing_compressed", "hours", [hours]),
        ("resident", "MB", [one.resident_mb for one in samples]),
        ("resident_growth", "%", [100 * growth["resident_share"]]),
        ("resident_growth_per_1000_requests", "kB", [growth["resident_kb_per_1000"]]),
        *((f"{name}_growth", "", [growth[name]]) for name in ("threads", "files", "tasks")),
        ("shutdown", "ms", [1000 * end_s]),
    ]
    return [figure(subject, name, unit, numbers) for name, unit, numbers in values]


def _is_alive(process: Any) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
