"""When things happen: the clock, and how long to wait for the next keystroke before decoding.

Knows times only, never text, engine or protocol.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


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
