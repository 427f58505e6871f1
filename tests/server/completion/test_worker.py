"""The worker's thread: order, cancellation, end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from server.completion.engine import CancelToken
from server.completion.worker import Job, Worker


def noting(ran: list[str], name: str) -> Callable[[CancelToken], None]:
    def run(cancel: CancelToken) -> None:
        ran.append(f"{name} cancelled" if cancel.is_cancelled else name)

    return run


def blocking(started: threading.Event) -> Callable[[CancelToken], None]:
    def run(cancel: CancelToken) -> None:
        started.set()
        assert cancel.wait(10), "nobody cancelled the job"

    return run


def test_awaited_jobs_run_before_background_jobs_in_their_order() -> None:
    worker, ran, started = Worker(), list[str](), threading.Event()
    hold = Job(run=blocking(started))
    worker.submit(hold)
    started.wait()
    worker.submit(Job(run=noting(ran, "background"), is_background=True))
    worker.submit(Job(run=noting(ran, "first")))
    worker.submit(Job(run=noting(ran, "second")))
    last = threading.Event()
    worker.submit(Job(run=lambda cancel: last.set(), is_background=True))
    hold.cancel.cancel()
    assert last.wait(10)
    assert ran == ["first", "second", "background"]
    worker.close()
    assert worker.join(10)


def test_an_awaited_job_stops_a_background_job() -> None:
    worker, ran, started = Worker(), list[str](), threading.Event()
    worker.submit(Job(run=blocking(started), is_background=True))
    started.wait()
    done = threading.Event()
    worker.submit(Job(run=noting(ran, "awaited")))
    worker.submit(Job(run=lambda cancel: done.set()))
    assert done.wait(10)
    assert ran == ["awaited"]
    worker.close()
    assert worker.join(10)


def test_closing_cancels_what_runs_and_tells_what_waits() -> None:
    worker, ran, started = Worker(), list[str](), threading.Event()
    worker.submit(Job(run=blocking(started)))
    started.wait()
    worker.submit(Job(run=noting(ran, "waiting")))
    worker.close()
    assert worker.join(10)
    assert ran == ["waiting cancelled"]


def test_a_job_that_raises_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    def fails(cancel: CancelToken) -> None:
        raise ValueError("a bug")

    worker, done = Worker(), threading.Event()
    worker.submit(Job(run=fails))
    worker.submit(Job(run=lambda cancel: done.set()))
    assert done.wait(10)
    assert "a job of the worker failed" in caplog.text
    worker.close()
    assert worker.join(10)
    assert worker.is_idle
