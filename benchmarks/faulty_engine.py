"""An engine that fails when it is told to, for the measurement of recovery.

What it is to do stands in the document itself: a prefix that ends with a fault's name meets it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    TextDelta,
)
from server.options import Options

NAME = "faulty"
RAISES, HANGS = "raises = ", "hangs = "
ENTRY_POINTS = f"[foretype.engines]\n{NAME} = {__name__}:FaultyEngine\n"


class FaultyEngine(CompletionEngine):
    """Completes everything with the same text, unless it fails."""

    @classmethod
    def load(cls, options: Options) -> FaultyEngine:
        """Nothing is loaded."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine=NAME, model="none")

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


def install(folder: Path) -> None:
    """Write what makes the engine a plugin of a server that has `folder` on its path."""
    info = folder / "faulty_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
