"""From an open request to its answer: the debounce, the engine's work, the deadline, the order.

Knows neither gates nor documents: what is asked for, and what is known of it already, are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from server.completion.engine_room import EngineRoom
from server.completion.pending import Pending
from server.completion.request import Answer, Source
from server.completion.runs import Runs
from server.completion.scheduler import Clock, TypingRhythm, debounce_s, done_within
from server.options import Options

_REASONS = {"closed": "the server is shutting down", "forgotten": "the document was closed"}
_SUPERSEDED = Answer(is_superseded=True, reason="a newer request took over")


class Answering:
    """Waits for answers.

    Args:
        room: where the engine is.
        clock: the time.
        on_activity: is told that the engine began or ended to work for somebody.
    """

    def __init__(self, room: EngineRoom, clock: Clock, on_activity: Callable[[], None]) -> None:
        self.rhythm = TypingRhythm()
        self.runs = Runs(room, clock)
        self._room = room
        self._clock = clock
        self._on_activity = on_activity

    async def answer(self, pending: Pending, options: Options, started_s: float) -> Answer:
        """Wait for what a request asks for, and give out what is there by its deadline.

        Args:
            pending: the request and its offers.
            options: the times.
            started_s: when it came.
        """
        source: Source = "cache"
        if not pending.is_complete:
            is_in_flight = pending.generations[0].run is not None
            source = "in_flight" if is_in_flight else "model"
        self.runs.follow(pending)
        pending.refresh()
        if not pending.settled.done():
            if source == "model" and pending.request.trigger == "automatic":
                await self._debounce(pending, options)
            self.runs.go_on(pending)
            self._on_activity()
            ends_s = started_s + options.deadline_ms / 1000
            await done_within(pending.settled, ends_s - self._clock.now(), self._clock)
            self._room.catch_up()
            if pending.is_complete and pending.may_rank:
                await self._rank(pending, ends_s - self._clock.now())
        if pending.is_superseded:
            return replace(_SUPERSEDED, source=source)
        candidates = pending.candidates()
        how = pending.settled.result() if pending.settled.done() else "complete"
        reason = _REASONS.get(how) or pending.reason()
        return Answer(
            candidates=candidates,
            source=source if candidates else "none",
            reason="" if candidates else reason,
            usage=pending.usage(),
        )

    async def _debounce(self, pending: Pending, options: Options) -> None:
        """Prefill at once, and wait for the next keystroke before decoding."""
        wait_s = debounce_s(
            self.rhythm,
            self.runs.service,
            options.debounce_ms / 1000,
            options.max_debounce_ms / 1000,
        )
        if wait_s > 0:
            request = pending.generations[0].continued()
            pending.preparing = self._room.warm(request, is_background=False)
            await done_within(pending.settled, wait_s, self._clock)

    async def _rank(self, pending: Pending, left_s: float) -> None:
        """Order the candidates by what stands after the cursor, where time and engine allow it."""
        asked = pending.continuations()
        is_open = not pending.settled.done() or pending.settled.result() == "complete"
        if not is_open or not all(text for _, text in asked):
            return
        ratings, pending.preparing = self._room.rate(asked)
        pending.reopen(asyncio.get_running_loop().create_future())
        ratings.add_done_callback(lambda _: pending.settle("complete"))
        await done_within(pending.settled, left_s, self._clock)
        if ratings.done():
            pending.rank(ratings.result())
