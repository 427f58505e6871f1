"""Calls handed from a thread to the event loop, in order, all that have come at one wake-up.

Does not know what is handed over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

FRAME_S = 0.008
"""So long may what is only growth be kept back: half a frame of most screens. Guessed."""


class Handover:
    """The way from a thread to an event loop.

    To wake a loop takes a system call, and whatever the loop then does takes the interpreter from
    the thread. So a call that comes before the loop has turned to an earlier one wakes nobody, and
    one that may wait wakes nobody within a frame of the last delivery: then a timer delivers it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, frame_s: float = FRAME_S) -> None:
        self._loop = loop
        self._frame_s = frame_s
        self._lock = threading.Lock()
        self._calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What the loop has not made yet."""
        self._is_woken = False
        """The loop was woken and has not come yet."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs for a frame after each delivery."""

    def post(self, callback: Callable[..., None], *args: Any, may_wait: bool = False) -> None:
        """Have a call made on the loop; from any thread. A closed loop has nobody left to tell.

        Args:
            callback: called on the loop, after all that was posted before.
            args: its arguments.
            may_wait: a frame later will do.
        """
        with self._lock:
            self._calls.append((callback, args))
            if self._is_woken or (may_wait and self._timer is not None):
                return
            self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:
            logger.debug("the event loop is closed")

    def deliver(self) -> None:
        """Make the calls that were posted so far; on the loop."""
        with self._lock:
            calls, self._calls = self._calls, []
            self._is_woken = False
            if calls and self._timer is None:
                self._timer = self._loop.call_later(self._frame_s, self._end_frame)
        for callback, args in calls:
            try:
                callback(*args)
            except Exception as exc:  # It is reported as the loop does it, and stops no other.
                message = f"a call from another thread failed: {callback!r}"
                self._loop.call_exception_handler({"message": message, "exception": exc})

    def _end_frame(self) -> None:
        with self._lock:
            self._timer = None
            is_due = bool(self._calls)
        if is_due:
            self.deliver()
