"""What is measured in turn with others, each in a process of its own.

So that one's idle threads, allocator and imports are not the other's. A subject's module is
imported in its own process; here are only names and messages.
"""

from __future__ import annotations

import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import psutil

from benchmarks.errors import BenchmarkError

Device = Literal["cpu", "cuda"]
TaskName = Literal["prefill", "decode", "verify", "line"]
START_S = 600.0  # the slowest peer compiles or converts its model first
TASK_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSpec:
    """What to start."""

    name: str
    """As tables show it."""
    maker: str
    """`module:Class` of a `Subject`."""
    folder: Path
    """The bundle."""
    n_threads: int
    seed: int
    device: Device = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to time, once."""

    name: TaskName
    """prefill: the prompt, from nothing; decode: `n_new` tokens after it, per token; verify:
    `n_new` tokens after it in one pass; line: `n_new` tokens after one more key of a prompt whose
    other tokens were seen before."""
    n_prompt: int
    n_new: int = 0

    @property
    def figure(self) -> tuple[str, str]:
        """Return name and unit of what comes out."""
        match self.name:
            case "prefill":
                return f"prefill_{self.n_prompt}", "ms"
            case "decode":
                return "decode", "ms/token"
            case "verify":
                return f"verify_{self.n_new}", "ms"
            case "line":
                return "line", "ms"


class Subject(ABC):
    """Runs one network its own way; lives in its own process."""

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        """Load the network.

        Args:
            spec: what to load.
            token_ids: a text; tasks take their prompts from its start.

        Raises:
            Exception: whatever its library raises; the parent names it and skips the subject.
        """
        self.spec = spec
        self.token_ids = list(token_ids)

    @abstractmethod
    def run(self, task: Task) -> float | None:
        """Return the milliseconds that a task took, or None where it has no meaning."""

    def describe(self) -> dict[str, Any]:
        """Return what really runs: provider, dtype, weight bytes per token."""
        return {}


class SubjectProcess:
    """A subject, seen from outside. Use it as a context manager."""

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        """Start it and wait until it is loaded.

        Raises:
            BenchmarkError: it does not load, with the reason that its library gave.
        """
        self.spec = spec
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(spec, list(token_ids), theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.description: dict[str, Any] = self._receive(START_S)

    def run(self, task: Task) -> float | None:
        """Let it do one task; return milliseconds.

        Raises:
            BenchmarkError: it failed.
        """
        self._connection.send(task)
        answer: float | None = self._receive(TASK_S)
        return answer

    def memory(self) -> dict[str, float]:
        """Return its resident memory in MB, now and at most."""
        self._connection.send("memory")
        answer: dict[str, float] = self._receive(TASK_S)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        self._connection.close()

    def __enter__(self) -> SubjectProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, timeout_s: float) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise EOFError(f"no answer within {timeout_s:g} s")
            is_done, answer = self._connection.recv()
        except (EOFError, OSError) as exc:
            self.close()
            raise BenchmarkError(f"{self.spec.name} ended: {exc or 'it crashed'}") from exc
        if not is_done:
            self.close()
            raise BenchmarkError(f"{self.spec.name}: {answer}")
        return answer


def sample_tokens(n_vocab: int, n_tokens: int, seed: int) -> list[int]:
    """Return tokens to feed; which ones makes no difference to the speed."""
    return [int(i) for i in np.random.default_rng(seed).integers(4, n_vocab, n_tokens)]


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # Not ru_maxrss: it survives exec, and would be the parent's.
        lines = status.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _serve(spec: SubjectSpec, token_ids: list[int], connection: Connection) -> None:
    """Load the subject, then do what is asked, in the child."""
    try:
        started = time.perf_counter()
        module, _, name = spec.maker.partition(":")
        subject: Subject = getattr(import_module(module), name)(spec, token_ids)
        load_ms = 1e3 * (time.perf_counter() - started)
        connection.send((True, {"load_ms": load_ms, **subject.describe()}))
        while True:
            task = connection.recv()
            connection.send((True, _memory() if task == "memory" else subject.run(task)))
    except EOFError:
        return
    except Exception as exc:  # a peer's library may raise anything; the parent names it
        connection.send((False, f"{type(exc).__name__}: {str(exc).splitlines()[:1]}"))


def _memory() -> dict[str, float]:
    return {
        "resident_mb": psutil.Process().memory_info().rss / 1e6,
        "peak_mb": peak_memory_bytes() / 1e6,
    }
