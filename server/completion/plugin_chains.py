"""Loads the filters and context sources that the options name, and blocks those that break."""

from __future__ import annotations

import logging
from typing import Any

from server.completion.context import ContextChain
from server.completion.filters import FilterChain
from server.errors import PluginError
from server.options import Options
from server.plugins import Group, Plugins

logger = logging.getLogger(__name__)


def load_filters(options: Options, plugins: Plugins) -> FilterChain:
    """Return the filters of the options, in their order, less those that fail to load."""
    return FilterChain(
        _load_all("filters", options.filters, plugins),
        lambda name, how: plugins.block("filters", name, how),
    )


def load_context(options: Options, plugins: Plugins) -> ContextChain:
    """Return the context sources of the options, in their order, less those that fail to load."""
    return ContextChain(
        _load_all("context", options.context_sources, plugins),
        lambda name, how: plugins.block("context", name, how),
    )


def _load_all(group: Group, names: tuple[str, ...], plugins: Plugins) -> list[tuple[str, Any]]:
    loaded = []
    for name in names:
        try:
            plugin = plugins.load(group, name)
        except PluginError as exc:
            logger.warning("%s", exc)
            continue
        if callable(plugin):
            loaded.append((name, plugin))
        else:
            plugins.block(group, name, "it cannot be called")
    return loaded
