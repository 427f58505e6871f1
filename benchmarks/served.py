"""The serving path as users get it, asked from a program: completer, filters, cache and engine.

In the process, without the protocol and without the wait for the next key; a benchmark of what is
offered, not of how soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.errors import BenchmarkError
from server.completion.completer import Completer
from server.completion.request import Answer, CompletionRequest
from server.options import Options
from server.plugins import Plugins


class Served:
    """A completer with a real engine; every method waits for its answer."""

    def __init__(self, options: Options) -> None:
        """Load the engine.

        Raises:
            BenchmarkError: it can't be loaded.
        """
        self._loop = asyncio.new_event_loop()
        self._options = replace(options, debounce_ms=0, max_debounce_ms=0)
        self._completer = Completer(
            self._options, Plugins(options.blocked_plugins), on_status=lambda _: None
        )
        self._version = 0
        if not self._loop.run_until_complete(self._start()):
            raise BenchmarkError(self._completer.status.message)

    async def _start(self) -> bool:
        self._completer.start()
        return await self._completer.wait_ready()

    def complete(self, document: str, prefix: str, suffix: str) -> tuple[Answer, float]:
        """Return the answer to an automatic request, and the milliseconds that it took."""
        self._version += 1
        request = CompletionRequest(
            document=document,
            version=self._version,
            prefix=prefix,
            suffix=suffix,
            language="python",
            path=document,
            n_chars=len(prefix) + len(suffix),
        )
        began = time.perf_counter()
        answer = self._loop.run_until_complete(self._completer.complete(request))
        return answer, 1000 * (time.perf_counter() - began)

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


@contextmanager
def serving(options: Options) -> Iterator[Served]:
    """Load an engine for the time of a block."""
    served = Served(options)
    try:
        yield served
    finally:
        served.close()
