"""The serving path as users get it, asked from a program: completer, filters, cache and engine.

In the process, without the protocol and without the wait for the next key: for figures of what is
offered, not of how soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

from server.completion.completer import Completer
from server.completion.engine import WorkspaceFile
from server.completion.engines.local import LocalEngine
from server.completion.request import Answer, CompletionRequest
from server.options import Options
from server.plugins import Group, Plugins
from training.errors import ServingError

Part = Literal["healing", "cache"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What can be left out that no setting switches off."""


class Served:
    """A completer with a real engine; every method waits for its answer."""

    def __init__(self, options: Options, without: Collection[Part] = ()) -> None:
        """Load the engine.

        Args:
            options: the user's settings; nothing is waited for before decoding.
            without: what is left out, to see what it brings.

        Raises:
            ServingError: it can't be loaded.
        """
        self._forgets = "cache" in without
        self._loop = asyncio.new_event_loop()
        self._options = replace(options, debounce_ms=0, max_debounce_ms=0)
        kind = _UnhealedPlugins if "healing" in without else Plugins
        self._completer = Completer(
            self._options, kind(options.blocked_plugins), on_status=lambda _: None
        )
        self._version = 0
        if not self._loop.run_until_complete(self._start()):
            raise ServingError(self._completer.status.message)

    async def _start(self) -> bool:
        self._completer.start()
        return await self._completer.wait_ready()

    def learn(self, files: Sequence[WorkspaceFile]) -> None:
        """Let the engine learn files as those of its workspace."""
        self._completer.learn(files)

    def complete(
        self, document: str, prefix: str, suffix: str, path: str = ""
    ) -> tuple[Answer, float]:
        """Return the answer to an automatic request, and the milliseconds that it took.

        Args:
            document: names it; what was generated for it is remembered under this name.
            prefix: text before the cursor.
            suffix: text behind it.
            path: the file that it is of, whose learned copy says nothing; the document's name if
                empty.
        """
        self._version += 1
        request = CompletionRequest(
            document=document,
            version=self._version,
            prefix=prefix,
            suffix=suffix,
            language="python",
            path=path or document,
            n_chars=len(prefix) + len(suffix),
        )
        began = time.perf_counter()
        answer = self._loop.run_until_complete(self._completer.complete(request))
        took_ms = 1000 * (time.perf_counter() - began)
        if self._forgets:
            self.forget(document)
        return answer, took_ms

    @contextmanager
    def showing_from(self, min_confidence: float) -> Iterator[None]:
        """Use another threshold of confidence for the time of a block."""
        self._completer.set_options(replace(self._options, min_confidence=min_confidence))
        try:
            yield
        finally:
            self._completer.set_options(self._options)

    def forget(self, document: str) -> None:
        """Close a document, so that nothing is known of it any more."""
        self._completer.document_closed(document)

    def close(self) -> None:
        """Stop the engine."""
        self._loop.run_until_complete(self._completer.close())
        self._loop.close()


class _Unhealed(LocalEngine):
    """The local engine, going on from exactly the tokens before the cursor."""

    heals = False


class _UnhealedPlugins(Plugins):
    def load(self, group: Group, name: str) -> Any:
        return _Unhealed if (group, name) == ("engines", "local") else super().load(group, name)


@contextmanager
def serving(options: Options, without: Collection[Part] = ()) -> Iterator[Served]:
    """Load an engine for the time of a block."""
    served = Served(options, without)
    try:
        yield served
    finally:
        served.close()
