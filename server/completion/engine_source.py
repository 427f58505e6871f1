"""Where engines come from: the one that the options name, and another when that one hangs.

Runs on the worker's thread. Does not know how a hang is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from server.completion.engine import CompletionEngine
from server.errors import CompletionServerError, EngineError, PluginError
from server.options import Options
from server.plugins import Plugins

logger = logging.getLogger(__name__)

_MAX_REPLACED = 3
"""Engines given up in a server's life; the thread of each keeps its memory (guessed)."""


class EngineSource:
    """Loads the engine of one server, again and again if it must be.

    Args:
        options: name the engine.
        plugins: where it comes from.
        on_progress: is told how many percent of a load are done.
    """

    def __init__(
        self,
        options: Options,
        plugins: Plugins,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._plugins = plugins
        self._on_progress = on_progress
        self._n_replaced = 0

    def load(self) -> CompletionEngine:
        """Load the engine that the options name.

        Raises:
            CompletionServerError: it cannot be loaded; the message is for the user.
        """
        name = self._options.engine
        kind = self._plugins.load("engines", name)
        if not (isinstance(kind, type) and issubclass(kind, CompletionEngine)):
            self._plugins.block("engines", name, "it is no subclass of CompletionEngine")
            raise PluginError(f"engine {name!r} is no subclass of CompletionEngine")
        try:
            return kind.load(self._options, self._on_progress)
        except CompletionServerError:
            raise
        except Exception as exc:  # a stranger's engine may raise anything
            logger.exception("the engine %r failed to load", name)
            raise PluginError(
                f"engine {name!r} failed to load: {type(exc).__name__}: {exc}"
            ) from exc

    def replace(self, engine: CompletionEngine | None, reason: str) -> CompletionEngine:
        """Return an engine to go on with in place of one that hangs.

        Args:
            engine: the one that hangs; None: it hung while it was loaded.
            reason: why it was given up.

        Raises:
            CompletionServerError: there is none; the message is for the user.
        """
        self._n_replaced += 1
        if self._n_replaced > _MAX_REPLACED:
            raise EngineError(f"{reason}, the {self._n_replaced}th time; restart the server")
        if engine is not None:
            return engine.after_hang(reason) or self.load()
        if self._options.device == "cpu":
            raise EngineError(f"{reason}; set another model or backend and restart the server")
        # What hangs in a load is mostly a GPU's driver.
        self._options = replace(self._options, device="cpu")
        return self.load()
