"""When things happen: the clock, the rhythm of typing, how long decoding waits for the next key.

Knows times only, never text, engine or protocol. The wait delays decoding; prefilling starts at
once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol

_PAUSE_S = 1.0
"""Longer intervals are pauses, not typing. People type a key in 0.1 to 0.4 s; Tabby drops intervals
above 0.4 s, which would take a slow typist for nobody."""
_MIN_SAMPLES = 5
_SAMPLES = 30
_SURELY = 0.8
"""Share of the intervals after which the next key has come, if it comes at all (guessed)."""


class Clock(Protocol):
    """Where the completer reads the time; tests advance theirs by hand."""

    def now(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class MonotonicClock:
    """The real time."""

    def now(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class TypingRhythm:
    """The intervals between the last keystrokes, as the requests tell them."""

    def __init__(self) -> None:
        self._intervals_s: deque[float] = deque(maxlen=_SAMPLES)
        self._last_s: float | None = None

    def keystroke(self, now_s: float) -> None:
        """Note a keystroke; a pause in front of it is no interval."""
        if self._last_s is not None and 0 < now_s - self._last_s <= _PAUSE_S:
            self._intervals_s.append(now_s - self._last_s)
        self._last_s = now_s

    def interval_s(self, share: float) -> float | None:
        """Return the interval that a share of all stays under; None: too few are known."""
        if len(self._intervals_s) < _MIN_SAMPLES:
            return None
        ordered = sorted(self._intervals_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class ServiceTime:
    """How long the model takes for a completion, as a running mean that forgets."""

    def __init__(self) -> None:
        self.mean_s: float | None = None

    def note(self, seconds: float) -> None:
        """Add one completion; the last five or so count."""
        self.mean_s = seconds if self.mean_s is None else 0.8 * self.mean_s + 0.2 * seconds


def debounce_s(rhythm: TypingRhythm, service: ServiceTime, least_s: float, most_s: float) -> float:
    """Return how long decoding waits after a keystroke.

    A model that answers between two keys wastes nothing: it waits `least_s`. A slower one waits
    until the next key, were the typist going on, would most likely have come, at most `most_s`.
    """
    usual_s = rhythm.interval_s(0.5)
    if usual_s is None or service.mean_s is None or service.mean_s <= usual_s:
        return least_s
    surely_s = rhythm.interval_s(_SURELY) or least_s
    return max(least_s, min(surely_s, most_s))


async def done_within(future: asyncio.Future[Any], seconds: float, clock: Clock) -> bool:
    """Wait for a future, at most `seconds`; return whether it is done."""
    if future.done() or seconds <= 0:
        return future.done()
    timer = asyncio.ensure_future(_as_coroutine(clock.sleep(seconds)))
    try:
        await asyncio.wait({future, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return future.done()


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable
