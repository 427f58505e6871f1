"""Where the event loop and the engine's thread meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    OnProgress,
    TextDelta,
    untold,
)
from server.completion.engine_room import EngineRoom
from server.completion.generation import Generation
from server.completion.request import CompletionRequest
from server.errors import EngineError
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins

PLACE = CompletionRequest(document="file:///a", version=1, prefix="x = ", suffix="\n")
REQUEST = EngineRequest(document="file:///a", prefix="x = ", suffix="\n")


class Bench:
    """An engine room, what it told, and its engine."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.loaded: list[tuple[EngineInfo | None, str]] = []
        self.percents: list[int] = []
        self.grown: list[Generation] = []
        self.hung: list[str] = []
        self.plugins = FakePlugins()
        self.plugins.provide("engines", "fake", engine.as_plugin())
        self.room = EngineRoom(
            on_progress=self.percents.append,
            on_loaded=lambda info, error: self.loaded.append((info, error)),
            on_growth=self.grown.append,
            on_hang=self.hung.append,
        )

    async def load(self) -> None:
        self.room.load(Options(engine="fake"), self.plugins)
        await until(lambda: bool(self.loaded))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def never(deltas: object) -> bool:
    return False


def generation() -> Generation:
    return Generation(place=PLACE, request=REQUEST, settings="")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    opened = Bench(FakeEngine(lambda _: ["one", "two", "three"], is_gated=True))
    await opened.load()
    yield opened
    await opened.room.close()


async def test_an_engine_may_say_how_much_of_it_is_loaded() -> None:
    class Slow(FakeEngine):
        @classmethod
        def load(cls, options: Options, on_progress: OnProgress = untold) -> CompletionEngine:
            on_progress(50)
            return cls(lambda _: [])

    slow = Bench(Slow(lambda _: []))
    slow.plugins.provide("engines", "fake", Slow)
    await slow.load()
    assert slow.percents == [50]
    await slow.room.close()


async def test_text_that_comes_after_a_stop_is_not_added(bench: Bench) -> None:
    one = generation()
    bench.room.start(one, never, 0.0)
    run = one.run
    assert run is not None
    bench.engine.allow(2)
    while bench.engine.n_taken < 2:
        pass  # The event loop must not turn: what was said waits for it.
    one.stop()
    text = one.text
    assert text
    run.arrived.append(TextDelta(text="late", logprob=0.0))
    await until(lambda: bench.room.is_idle)
    await asyncio.sleep(0)
    assert one.text == text
    assert not one.is_ended
    assert bench.grown == []


async def test_pieces_that_come_together_wake_the_loop_once_and_stay_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [str(n) for n in range(60)]
    bench = Bench(FakeEngine(lambda _: pieces))
    await bench.load()
    loop, n_wakes = asyncio.get_running_loop(), 0
    wake = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal n_wakes
        n_wakes += 1
        return wake(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    one = generation()
    bench.room.start(one, never, 0.0)
    while not bench.room.is_idle:
        pass  # The event loop must not turn until all was said.
    assert one.run is not None
    await until(lambda: one.run is None)
    assert n_wakes == 1
    assert [delta.text for delta in one.deltas] == pieces
    assert one.is_ended
    assert bench.grown == [one, one]  # It was told of all pieces at once, and of the end.
    await bench.room.close()


async def test_a_piece_that_comes_alone_waits_for_no_other(bench: Bench) -> None:
    one = generation()
    bench.room.start(one, never, 0.0)
    for n_pieces in (1, 2, 3):
        bench.engine.allow()
        await until(lambda n=n_pieces: len(one.deltas) == n)  # type: ignore[misc]
    await until(lambda: one.run is None)


async def test_pieces_before_a_failure_are_not_lost(bench: Bench) -> None:
    bench.engine.error = EngineError("the end")
    bench.engine.is_open = True
    one = generation()
    bench.room.start(one, never, 0.0)
    while not bench.room.is_idle:
        pass  # All waits for the event loop: the pieces, and the failure behind them.
    await until(lambda: one.run is None)
    assert (one.text, one.error) == ("onetwothree", "the end")


async def test_a_second_run_goes_on_where_the_first_one_stopped(bench: Bench) -> None:
    one = generation()
    bench.room.start(one, lambda deltas: len(deltas) == 1, 0.0)
    bench.engine.is_open = True
    await until(lambda: one.run is None)
    assert (one.text, one.is_ended) == ("one", False)
    bench.engine.script = lambda _: ["two", "three"]
    bench.room.start(one, never, 0.0)
    await until(lambda: one.run is None)
    assert (one.text, one.is_ended) == ("onetwothree", True)
    assert [stream.prefix for stream in bench.engine.streams] == ["x = ", "x = one"]


async def test_whether_it_is_enough_is_asked_with_all_pieces(bench: Bench) -> None:
    asked: list[list[str]] = []

    def is_enough(deltas: list[TextDelta]) -> bool:
        asked.append([delta.text for delta in deltas])
        return False

    one = generation()
    one.add(TextDelta(text="zero", logprob=0.0))
    bench.room.start(one, is_enough, 0.0)  # type: ignore[arg-type]
    bench.engine.is_open = True
    await until(lambda: one.run is None)
    assert asked[0] == ["zero", "one"]
    assert asked[-1] == ["zero", "one", "two", "three"]


async def test_an_engine_that_raises_anything_is_an_error_of_the_generation(bench: Bench) -> None:
    bench.engine.error = ZeroDivisionError("division by zero")
    bench.engine.is_open = True
    one = generation()
    bench.room.start(one, never, 0.0)
    await until(lambda: one.run is None)
    assert one.error.startswith("the engine failed: ZeroDivisionError at stream:")
    assert "division" not in one.error, "a message may hold text of the document"
    assert not one.is_ended


async def test_what_is_no_engine_is_blocked_and_named() -> None:
    bench = Bench(FakeEngine())
    bench.plugins.provide("engines", "fake", object)
    await bench.load()
    assert bench.loaded == [(None, "engine 'fake' is no subclass of CompletionEngine")]
    assert ("engines", "fake") in bench.plugins._blocked
    await bench.room.close()


async def test_an_engine_that_cannot_be_loaded_is_one_sentence() -> None:
    bench = Bench(FakeEngine(load_error=ValueError("no weights")))
    await bench.load()
    assert bench.loaded == [(None, "engine 'fake' failed to load: ValueError: no weights")]
    await bench.room.close()


async def test_a_rating_that_fails_leaves_the_order(bench: Bench) -> None:
    def fails(prefix: str, text: str) -> float:
        raise ValueError("no")

    bench.engine.rating = fails
    ratings, _ = bench.room.rate([(replace(REQUEST, prefix="x = 1"), "\ny")])
    assert await ratings == []


async def test_warming_ahead_that_fails_is_no_matter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: EngineRequest, cancel: CancelToken) -> int:
        raise ValueError("no")

    told: list[int] = []
    monkeypatch.setattr(bench.engine, "warm_ahead", fails)
    bench.room.warm_ahead(REQUEST, told.append)
    await until(lambda: bench.room.is_idle)
    monkeypatch.undo()
    bench.engine.n_ahead = 7
    bench.room.warm_ahead(REQUEST, told.append)
    await until(lambda: bool(told))
    assert told == [7]
