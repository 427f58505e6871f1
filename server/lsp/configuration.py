"""Where settings come from, and which wins: command line, then the editor's, then the start's.

Pure: does not know how the editor sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.options import SECTION, Options, apply_settings, snake_case

CLIENT_KEYS = frozenset({"client", "trace", "streaming", "status", "token"})
"""Keys that belong to the editor's side of the connection and are no settings."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the client opted in to with `initializationOptions`."""

    is_growing: bool = False
    wants_status: bool = False

    @classmethod
    def of(cls, initialization_options: Any) -> Features:
        """Read them; anything but `true` means no."""
        given = initialization_options if isinstance(initialization_options, Mapping) else {}
        return cls(
            is_growing=given.get("streaming") is True, wants_status=given.get("status") is True
        )


class Configuration:
    """The layers of settings; `options` is what holds now."""

    def __init__(self, command_line: Mapping[str, Any]) -> None:
        """Start from the command line, whose settings no editor can change.

        Raises:
            OptionsError: never; bad flags were refused before.
        """
        self._pinned = {snake_case(name): value for name, value in command_line.items()}
        self._start, _ = apply_settings(Options(), self._pinned)
        self.options = self._start
        self._told: set[str] = set()

    def start(self, settings: Any) -> list[str]:
        """Apply `initializationOptions`; return a warning for each that has no meaning."""
        if settings is None:
            return []
        if not isinstance(settings, Mapping):
            return ["initializationOptions is no object"]
        self._start, warnings = apply_settings(self._start, self._own(settings))
        self.options = self._start
        return self._new(warnings)

    def reload(self, settings: Any) -> list[str]:
        """Apply the editor's section over those of the start; return new warnings."""
        if settings is None:
            settings = {}
        if not isinstance(settings, Mapping):
            return self._new([f"the section {SECTION!r} is no object"])
        self.options, warnings = apply_settings(self._start, self._own(settings), running=True)
        return self._new(warnings)

    def _own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in settings.items()
            if key not in CLIENT_KEYS and snake_case(key) not in self._pinned
        }

    def _new(self, warnings: list[str]) -> list[str]:
        """Return the warnings that were not given before: editors send all settings each time."""
        fresh = [w for w in warnings if w not in self._told]
        self._told.update(fresh)
        return fresh


def section(settings: Any) -> Any:
    """Return our section of a `workspace/didChangeConfiguration`, or None if it has none."""
    return settings.get(SECTION) if isinstance(settings, Mapping) else None
