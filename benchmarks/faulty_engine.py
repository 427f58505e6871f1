"""An engine that fails when it is told to, for the measurement of recovery.

What it is to do stands in the document itself: a prefix that ends with a fault's name meets it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from benchmarks.engine_plugin import EngineWithoutModel
from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    TextDelta,
)

RAISES, HANGS = "raises = ", "hangs = "


class FaultyEngine(EngineWithoutModel):
    """Completes everything with the same text, unless it fails."""

    name = "faulty"

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield a text, or fail in the middle of it; the engine after one that hung is well."""
        yield TextDelta(text="value", logprob=-0.1)
        if request.prefix.endswith(RAISES):
            raise OSError("the device is lost")
        if request.prefix.endswith(HANGS) and not _HAS_HUNG.is_set():
            _HAS_HUNG.set()
            threading.Event().wait()
        yield TextDelta(text=" + 1\n", logprob=-0.1)
        usage.finish_reason = "stop"


_HAS_HUNG = threading.Event()
"""Once in a process: the request that hung is asked again, of another engine."""
