"""A worker that hangs is told from one that is slow, and is replaced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from server.completion.completer import Completer
from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineRequest,
    EngineUsage,
    TextDelta,
)
from server.completion.engine_room import EngineRoom
from server.completion.request import CompletionRequest
from server.completion.status import Status
from server.completion.watchdog import CALL_LOOKS, LOAD_LOOKS, Watchdog
from server.completion.worker import Job
from server.errors import EngineError
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins
from tests.server.completion.test_engine_room import until

SCRIPT = "def area(radius):\n    return pi * radius * radius\n"
REQUEST = CompletionRequest(
    document="file:///a.py", version=1, prefix="def area(", suffix="", language="python"
)


class HangingEngine(FakeEngine):
    """Says one piece and never comes back, until the test lets it."""

    def __init__(self, successor: CompletionEngine | Exception | None) -> None:
        super().__init__(SCRIPT)
        self.successor = successor
        self.let_go = threading.Event()
        self.is_hanging = threading.Event()
        self.came_back = threading.Event()
        self.reasons: list[str] = []

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        yield from [piece for piece in super().stream(request, cancel, usage)][:1]
        self.is_hanging.set()
        self.let_go.wait()
        self.came_back.set()
        yield TextDelta(text="too late", logprob=0.0)

    def after_hang(self, reason: str) -> CompletionEngine | None:
        self.reasons.append(reason)
        if isinstance(self.successor, Exception):
            raise self.successor
        return self.successor


class Bench:
    """A completer with an engine that hangs."""

    def __init__(self, engine: HangingEngine) -> None:
        self.engine = engine
        self.statuses: list[Status] = []
        plugins = FakePlugins()
        plugins.provide("engines", "fake", engine.as_plugin())
        options = Options(engine="fake", debounce_ms=0, max_debounce_ms=0, deadline_ms=60_000)
        self.completer = Completer(options, plugins, on_status=self.statuses.append)

    @property
    def room(self) -> EngineRoom:
        assert self.completer._room is not None
        return self.completer._room

    async def hang(self) -> None:
        """Let the watchdog look until it has seen enough."""
        await until(self.engine.is_hanging.is_set)
        for _ in range(CALL_LOOKS + 1):
            self.room.look()


def test_silence_is_counted_in_looks_and_a_sign_of_life_starts_again() -> None:
    job = Job(run=lambda cancel: None)
    dog = Watchdog()
    looks = [dog.hangs((job, 1), is_loading=False) for _ in range(CALL_LOOKS)]
    assert not any(looks)
    assert not dog.hangs((job, 2), is_loading=False)
    assert not any(dog.hangs((job, 2), is_loading=False) for _ in range(CALL_LOOKS - 1))
    assert dog.hangs((job, 2), is_loading=False)


def test_another_job_is_a_sign_of_life_and_no_job_never_hangs() -> None:
    dog = Watchdog()
    for _ in range(3 * CALL_LOOKS):
        assert not dog.hangs((Job(run=lambda cancel: None), 0), is_loading=False)
    assert not any(dog.hangs((None, 0), is_loading=False) for _ in range(3 * CALL_LOOKS))


def test_a_load_may_be_silent_for_longer() -> None:
    job = Job(run=lambda cancel: None)
    dog = Watchdog()
    assert not any(dog.hangs((job, 0), is_loading=True) for _ in range(LOAD_LOOKS))
    assert dog.hangs((job, 0), is_loading=True)


async def test_a_hanging_engine_is_replaced_and_the_same_request_goes_on() -> None:
    bench = Bench(HangingEngine(successor=FakeEngine(SCRIPT)))
    bench.completer.start()
    assert await bench.completer.wait_ready()
    asked = asyncio.create_task(bench.completer.complete(REQUEST))
    await bench.hang()
    answer = await asked
    assert [candidate.text for candidate in answer.candidates] == [
        "radius):\n    return pi * radius * radius"
    ]
    assert len(bench.engine.reasons) == 1
    assert "did not come back for 10 s" in bench.engine.reasons[0]
    told = [status.message for status in bench.statuses if status.state == "loading"]
    assert any("did not come back" in message for message in told)
    assert bench.completer.status.state == "ready"
    await bench.completer.close()
    bench.engine.let_go.set()


async def test_giving_up_leaves_one_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """There were two: each look then began two more chains, and a slow load was given up early."""
    bench = Bench(HangingEngine(successor=FakeEngine(SCRIPT)))
    bench.completer.start()
    assert await bench.completer.wait_ready()
    asked = asyncio.create_task(bench.completer.complete(REQUEST))
    await until(bench.engine.is_hanging.is_set)
    looks: list[float] = []
    call_later = bench.room._loop.call_later

    def counted(delay: float, what: Callable[..., None], *given: object) -> asyncio.TimerHandle:
        looks.extend([delay] if what == bench.room.look else [])
        return call_later(delay, what, *given)

    monkeypatch.setattr(bench.room._loop, "call_later", counted)
    for _ in range(CALL_LOOKS + 1):
        looks.clear()
        bench.room.look()
    assert len(looks) == 1
    await asked
    await bench.completer.close()
    bench.engine.let_go.set()


async def test_what_comes_back_after_it_was_given_up_changes_nothing() -> None:
    bench = Bench(HangingEngine(successor=FakeEngine(SCRIPT)))
    bench.completer.start()
    assert await bench.completer.wait_ready()
    asked = asyncio.create_task(bench.completer.complete(REQUEST))
    await bench.hang()
    first = await asked
    bench.engine.let_go.set()
    await until(bench.engine.came_back.is_set)
    await until(lambda: bench.completer.is_idle)
    again = await bench.completer.complete(REQUEST)
    assert [c.text for c in again.candidates] == [c.text for c in first.candidates]
    assert "too late" not in str(again)
    await bench.completer.close()


async def test_an_engine_without_a_successor_is_an_error_that_says_why() -> None:
    bench = Bench(HangingEngine(successor=EngineError("no backend is left")))
    bench.completer.start()
    assert await bench.completer.wait_ready()
    asked = asyncio.create_task(bench.completer.complete(REQUEST))
    await bench.hang()
    answer = await asked
    assert answer.candidates == () or answer.candidates[0].text
    assert bench.completer.status.state == "error"
    assert bench.completer.status.message == "no backend is left"
    assert (await bench.completer.complete(REQUEST)).reason == "no backend is left"
    await bench.completer.close()
    bench.engine.let_go.set()


async def test_an_engine_that_hangs_again_and_again_is_given_up_for_good() -> None:
    engine = HangingEngine(successor=None)  # So the same one is loaded again, and hangs again.
    bench = Bench(engine)
    bench.completer.start()
    assert await bench.completer.wait_ready()
    asked = asyncio.create_task(bench.completer.complete(REQUEST))
    for _ in range(4):
        await bench.hang()
        engine.is_hanging.clear()
    await asked
    assert "restart the server" in bench.completer.status.message
    await bench.completer.close()
    engine.let_go.set()
