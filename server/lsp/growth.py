"""What one request sends before its answer, and the answer that is left to send.

Source: docs/protocol.md, "Growing text"; LSP 3.18, "Partial Result Progress".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Items = list[dict[str, Any]]
EMPTY: dict[str, Any] = {"items": []}


class Growth:
    """Sends growing items for one token, each time the whole answer so far."""

    def __init__(
        self,
        send: Callable[[Items], None],
        *,
        is_growing: bool,
        is_congested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Choose between growing text and what the specification says of partial results.

        Args:
            send: sends items as progress of the request's token.
            is_growing: the client opted in: items replace those before. Otherwise items are
                appended on the other side, so they are sent once, when they are complete.
            is_congested: the client does not keep up; what grows later makes up for what is left
                out now.
        """
        self._send = send
        self._is_growing = is_growing
        self._is_congested = is_congested
        self._sent: Items | None = None
        self._is_open = True

    def grow(self, items: Items) -> None:
        """Send what there is so far, if it is new and the client wants it."""
        if self._is_open and self._is_growing and not self._is_congested():
            self._send_new(items)

    def finish(self, items: Items) -> dict[str, Any]:
        """Send what is left to send and return the response, which is empty if anything was."""
        self._is_open = False
        if self._is_growing and self._sent is None:
            return {"items": items}
        self._send_new(items)
        return EMPTY

    def close(self) -> None:
        """Send nothing any more: the request is cancelled or superseded."""
        self._is_open = False

    def _send_new(self, items: Items) -> None:
        if items != self._sent and (items or self._sent):
            self._sent = items
            self._send(items)
