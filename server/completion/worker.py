"""One thread that owns the engine: jobs run there one at a time, what is asked for before the rest.

Knows neither what a job does nor what an engine is. A job that waits too long is no concern of the
worker: it is cancelled through its token. A job that does not come back keeps its thread; the
worker is abandoned with it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server.completion.engine import CancelToken

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """Something to do on the worker's thread."""

    run: Callable[[CancelToken], None]
    """Is always called, so that it can tell its end; looks at the token before it does any work."""
    cancel: CancelToken = field(default_factory=CancelToken)
    is_background: bool = False
    """Nobody waits for it: it is cancelled as soon as somebody waits for another job."""
    on_abandoned: Callable[[], None] = lambda: None
    """Tells its end in its place, if it does not come back."""


class Worker:
    """The thread. Jobs that somebody waits for run first, in their order; then background jobs."""

    def __init__(self, name: str = "foretype-engine") -> None:
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        with self._changed:
            return self._current is None and not self._jobs

    @property
    def pulse(self) -> tuple[Job | None, int]:
        """The job that runs and how often it looked at its token: alike twice, it did nothing."""
        with self._changed:
            job = self._current
        return job, job.cancel.n_looks if job is not None else 0

    def abandon(self) -> tuple[Job | None, list[Job]]:
        """Leave the thread to itself; return the job that it is in and those that wait.

        Should the job come back after all, the thread ends. It is a daemon, so that it keeps no
        process from ending.
        """
        with self._changed:
            self._is_closing = True
            waiting = list(self._jobs)
            self._jobs.clear()
            if self._current is not None:
                self._current.cancel.cancel()
            return self._current, waiting

    def submit(self, job: Job) -> None:
        """Queue a job; a background job that runs is asked to stop for one that is awaited."""
        with self._changed:
            if self._is_closing:
                job.cancel.cancel()
            if not job.is_background and self._current and self._current.is_background:
                self._current.cancel.cancel()
            self._jobs.append(job)
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel everything that runs or waits; the thread ends when all jobs were told."""
        with self._changed:
            self._is_closing = True
            for job in [*self._jobs, self._current]:
                if job is not None:
                    job.cancel.cancel()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.run(job.cancel)
            except Exception:  # a bug in a job must not end the thread that all others need
                logger.exception("a job of the worker failed")

    def _next(self) -> Job | None:
        """Wait for a job; None: the worker is closed and all were told."""
        with self._changed:
            self._current = None
            self._changed.notify_all()
            while not self._jobs:
                if self._is_closing:
                    return None
                self._changed.wait()
            awaited = (job for job in self._jobs if not job.is_background)
            job = next(awaited, self._jobs[0])
            self._jobs.remove(job)
            self._current = job
            return job
