"""The wait before decoding, from the rhythm of typing and the model's time."""

from __future__ import annotations

import asyncio

import pytest

from server.completion.scheduler import ServiceTime, TypingRhythm, debounce_s, done_within
from tests.fakes import ManualClock


def typing(*intervals_s: float) -> TypingRhythm:
    rhythm = TypingRhythm()
    now = 100.0
    rhythm.keystroke(now)
    for interval in intervals_s:
        now += interval
        rhythm.keystroke(now)
    return rhythm


def service(seconds: float) -> ServiceTime:
    time = ServiceTime()
    time.note(seconds)
    return time


@pytest.mark.parametrize(
    ("rhythm", "model_s", "wait_s"),
    [
        (typing(), 0.5, 0.06),  # Nothing is known yet.
        (typing(*[0.2] * 10), 0.1, 0.06),  # The model is quicker than the typist.
        (typing(*[0.12] * 10), 0.5, 0.12),  # The next key would have come by then.
        (typing(*[0.1] * 7, *[0.2] * 3), 0.5, 0.2),  # The slower fifth counts.
        (typing(*[0.4] * 10), 0.5, 0.25),  # The cap.
        (typing(*[0.03] * 10), 0.5, 0.06),  # The floor.
    ],
)
def test_the_wait(rhythm: TypingRhythm, model_s: float, wait_s: float) -> None:
    assert debounce_s(rhythm, service(model_s), 0.06, 0.25) == pytest.approx(wait_s)


def test_the_wait_of_an_unknown_model_is_the_least() -> None:
    assert debounce_s(typing(*[0.12] * 10), ServiceTime(), 0.06, 0.25) == 0.06


def test_pauses_are_no_intervals() -> None:
    assert typing(*[0.1, 5.0] * 10).interval_s(0.9) == pytest.approx(0.1)


def test_old_intervals_are_forgotten() -> None:
    assert typing(*[0.5] * 30, *[0.1] * 30).interval_s(0.99) == pytest.approx(0.1)


def test_service_time_follows_the_last_completions() -> None:
    time = service(1.0)
    for _ in range(30):
        time.note(0.1)
    assert time.mean_s == pytest.approx(0.1, abs=0.01)


async def test_waiting_ends_with_the_time_or_with_the_future() -> None:
    clock = ManualClock()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(done_within(future, 1.0, clock))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(1.0)
    assert await waiting is False
    waiting = asyncio.create_task(done_within(future, 1.0, clock))
    await asyncio.sleep(0)
    future.set_result(None)
    assert await waiting is True
    await asyncio.sleep(0)
    assert clock.n_sleepers == 0
