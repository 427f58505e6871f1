"""Finds plugins through entry points, loads them when asked, blocks those that are broken.

The built-ins are registered the same way as a stranger's plugin, so a plugin can do all that they
can. Does not know what a plugin is for: each group's user checks the type.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from server.errors import PluginError, nearest_name

logger = logging.getLogger(__name__)

Group = Literal["backends", "engines", "context", "filters"]
GROUPS: tuple[Group, ...] = ("backends", "engines", "context", "filters")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginState:
    """One registered plugin, as `doctor` shows it."""

    group: Group
    name: str
    distribution: str
    target: str
    """Where it comes from, `module:attribute`."""
    blocked: str = ""
    """Why it is not used; empty: it is."""


class Plugins:
    """The registered plugins of all groups, and which of them are blocked and why."""

    def __init__(self, blocked: Collection[str] = ()) -> None:
        self._entries: dict[tuple[Group, str], EntryPoint] = {}
        self._blocked: dict[tuple[Group, str], str] = {}
        registered = entry_points()  # Once: each call reads what every distribution declares.
        for group in GROUPS:
            for entry in registered.select(group=f"foretype.{group}"):
                key = (group, entry.name)
                if key in self._entries and self._entries[key].value != entry.value:
                    self.block(group, entry.name, f"two distributions register it: {entry.value}")
                self._entries.setdefault(key, entry)
                if entry.name in blocked:
                    self._blocked[key] = "switched off by blockedPlugins"

    def names(self, group: Group) -> list[str]:
        """Return the names of a group that are not blocked, sorted."""
        return sorted(n for g, n in self._entries if g == group and (g, n) not in self._blocked)

    def load(self, group: Group, name: str) -> Any:
        """Import a plugin's object; one that does not import is blocked.

        Raises:
            PluginError: no plugin has this name, it is blocked, or it does not import.
        """
        key = (group, name)
        if key in self._blocked:
            raise PluginError(
                f"plugin {name!r} of foretype.{group} is blocked: {self._blocked[key]}"
            )
        if key not in self._entries:
            raise PluginError(
                f"no plugin {name!r} in foretype.{group}{nearest_name(name, self.names(group))}"
            )
        try:
            return self._entries[key].load()
        except Exception as exc:  # a stranger's import may raise anything
            self.block(group, name, f"it does not import: {type(exc).__name__}: {exc}")
            raise PluginError(
                f"plugin {name!r} of foretype.{group} does not import: {exc}"
            ) from exc

    def block(self, group: Group, name: str, reason: str) -> None:
        """Stop using a plugin, say so in the log once."""
        if (group, name) not in self._blocked:
            self._blocked[group, name] = reason
            logger.warning("plugin %r of foretype.%s is blocked: %s", name, group, reason)

    def states(self) -> list[PluginState]:
        """Return every registered plugin, sorted by group and name."""
        return [
            PluginState(
                group=group,
                name=name,
                distribution=entry.dist.name if entry.dist else "",
                target=entry.value,
                blocked=self._blocked.get((group, name), ""),
            )
            for (group, name), entry in sorted(self._entries.items(), key=lambda item: item[0])
        ]
