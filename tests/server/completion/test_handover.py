"""Calls from threads come to the event loop in order, and none gets lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from server.completion.handover import Handover


async def test_calls_of_several_threads_all_come_each_threads_in_its_order() -> None:
    handover = Handover(asyncio.get_running_loop())
    made: list[tuple[int, int]] = []
    done = asyncio.Event()

    def post(thread: int) -> None:
        for index in range(500):
            handover.post(lambda *call: made.append(call), thread, index)

    def note_end(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        handover.post(done.set)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    ends = threading.Thread(target=note_end, args=(threads,))
    ends.start()
    await done.wait()
    ends.join()
    assert len(made) == 2000
    for n in range(4):
        assert [index for thread, index in made if thread == n] == list(range(500))


async def test_what_is_posted_by_a_call_comes_at_the_next_wake_up() -> None:
    handover = Handover(asyncio.get_running_loop())
    made: list[str] = []
    handover.post(lambda: handover.post(made.append, "later"))
    handover.post(made.append, "first")
    await asyncio.sleep(0)
    assert made == ["first"]
    await asyncio.sleep(0)
    assert made == ["first", "later"]


async def test_what_may_wait_wakes_nobody_within_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    handover, made = Handover(loop, frame_s=3600.0), []
    handover.post(made.append, "first", may_wait=True)
    await asyncio.sleep(0)
    assert made == ["first"]
    monkeypatch.setattr(loop, "call_soon_threadsafe", None)
    handover.post(made.append, "second", may_wait=True)
    monkeypatch.undo()
    handover.post(made.append, "at once")
    await asyncio.sleep(0)
    assert made == ["first", "second", "at once"]


async def test_what_may_wait_comes_when_the_frame_ends() -> None:
    handover, came = Handover(asyncio.get_running_loop(), frame_s=0.001), asyncio.Event()
    handover.post(lambda: handover.post(came.set, may_wait=True))
    await came.wait()


async def test_what_waits_is_delivered_when_somebody_asks() -> None:
    handover, made = Handover(asyncio.get_running_loop(), frame_s=3600.0), []
    for call in ("first", "second"):
        handover.post(made.append, call, may_wait=True)
    handover.deliver()
    assert made == ["first", "second"]
    await asyncio.sleep(0)
    assert made == ["first", "second"]


async def test_a_call_that_raises_is_reported_and_stops_no_other() -> None:
    loop = asyncio.get_running_loop()
    handover, made = Handover(loop), []
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    handover.post(lambda: 1 / 0)
    handover.post(made.append, "next")
    await asyncio.sleep(0)
    assert made == ["next"]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


def test_a_closed_loop_has_nobody_left_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with caplog.at_level("DEBUG"):
        Handover(loop).post(print)
    assert caplog.messages == ["the event loop is closed"]
