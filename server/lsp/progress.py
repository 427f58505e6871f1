"""One piece of work that the client shows while it goes on (`window/workDoneProgress`).

Knows neither what the work is nor how messages travel.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lsprotocol import types

Ask = Callable[[str, Mapping[str, Any]], Awaitable[bool]]
"""Sends a request; whether the client agreed."""
Tell = Callable[[str, Mapping[str, Any]], None]


class WorkProgress:
    """Begins once the client agreed; what it is told before, it shows then."""

    def __init__(self, tell: Tell, token: str) -> None:
        """Show nothing yet.

        Args:
            tell: sends a notification.
            token: names the work; used once.
        """
        self._tell = tell
        self._token = token
        self._is_shown = False
        self._last: dict[str, Any] | None = None

    async def begin(self, ask: Ask, title: str, percent: int | None = None) -> None:
        """Ask the client, and show the title where it agrees.

        Args:
            ask: sends a request.
            title: what the work is.
            percent: how much is done, if that will be reported; clients ignore it later otherwise.
        """
        if not await ask(types.WINDOW_WORK_DONE_PROGRESS_CREATE, {"token": self._token}):
            return
        self._is_shown = True
        self._send({"kind": "begin", "title": title} | _percentage(percent))
        if self._last is not None:
            self._send(self._last)

    def report(self, message: str, percent: int | None = None) -> None:
        """Say how far it is, and how many percent that is where somebody knows."""
        self._send({"kind": "report", "message": message} | _percentage(percent))

    def end(self, message: str) -> None:
        """Say how it went."""
        self._send({"kind": "end", "message": message})

    def _send(self, value: dict[str, Any]) -> None:
        if self._is_shown:
            self._tell(types.PROGRESS, {"token": self._token, "value": value})
        else:
            self._last = value


def _percentage(percent: int | None) -> dict[str, int]:
    return {} if percent is None else {"percentage": percent}
