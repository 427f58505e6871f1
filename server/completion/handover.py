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


class Handover:
    """The way from a thread to an event loop.

    To wake a loop takes a system call and lets it have the interpreter, so a call that comes before
    the loop has turned to an earlier one wakes nobody.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What the loop has not made yet; it was woken if there is any."""

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """Have a call made on the loop; from any thread. A closed loop has nobody left to tell."""
        with self._lock:
            self._calls.append((callback, args))
            if len(self._calls) > 1:
                return
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            logger.debug("the event loop is closed")

    def _deliver(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, []
        for callback, args in calls:
            try:
                callback(*args)
            except Exception as exc:  # It is reported as the loop does it, and stops no other.
                message = f"a call from another thread failed: {callback!r}"
                self._loop.call_exception_handler({"message": message, "exception": exc})
