"""Keeps the status that the user sees, and tells of it when it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from server.completion.engine import EngineInfo
from server.completion.gates import Closed
from server.completion.status import State, Status


class StatusBoard:
    """The present status."""

    def __init__(self, on_status: Callable[[Status], None]) -> None:
        self.status = Status(state="loading", message="the model is being loaded", percent=0)
        self._on_status = on_status

    def announce(self) -> None:
        """Tell the status as it is."""
        self._on_status(self.status)

    def loading(self, percent: int) -> None:
        """Say how much of the loading is done."""
        if self.status.state == "loading":
            self._set(replace(self.status, percent=percent))

    def loaded(self, info: EngineInfo | None, error: str, *, is_enabled: bool) -> None:
        """Say what runs, or why nothing does."""
        if error:
            self._set(Status(state="error", message=error))
        else:
            self._set(Status(state="ready" if is_enabled else "off", engine=info))

    def restarting(self, reason: str) -> None:
        """Say that the engine was given up, and that another is being loaded."""
        message = f"{reason}; another is loaded in its place"
        self._set(Status(state="loading", message=message, percent=0))

    def switched(self, *, is_enabled: bool) -> None:
        """Say that completions were switched on or off, if they were to be had."""
        if self.status.state in ("ready", "off", "inactive"):
            state: State = "ready" if is_enabled else "off"
            self._set(Status(state=state, engine=self.status.engine))

    def gate(self, closed: Closed | None) -> None:
        """Say why there is nothing for a document; a closed place is no news, an open one is.

        Nor is any gate while there is no engine: that stays the reason.
        """
        if self.status.state in ("loading", "error"):
            return
        if closed is None:
            if self.status.state in ("off", "inactive"):
                self._set(Status(state="ready", engine=self.status.engine))
        elif closed.scope in ("off", "document"):
            state: State = "off" if closed.scope == "off" else "inactive"
            self._set(Status(state=state, message=closed.reason, engine=self.status.engine))

    def failed(self, error: str) -> None:
        """Say that the engine failed at a request; the next one that works takes it back."""
        self._set(replace(self.status, state="error", message=error))

    def activity(self, *, is_busy: bool, info: EngineInfo | None) -> None:
        """Say busy or ready, with the engine that really runs now."""
        if is_busy:
            self._set(Status(state="busy", engine=info))
        elif self.status.state == "busy":
            self._set(Status(state="ready", engine=info))

    def _set(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._on_status(status)
