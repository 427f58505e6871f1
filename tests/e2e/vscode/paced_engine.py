"""An engine without a model: it goes on with a known function wherever the text begins it.

Installed as a plugin for the tests, so that the whole server runs and every answer is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    OnProgress,
    TextDelta,
    untold,
)
from server.options import Options

FUNCTION = "def add(a, b):\n    total = a + b\n    return total"
OTHER = "def add(a, b):\n    return a + b"
PIECE_CHARS = 6
PIECE_S = 0.1
"""Slow enough that a user sees the text grow."""
N_FREE_PIECES = 2
"""What is said at once while a test holds the engine: it acts then, however slow the machine."""


class PacedEngine(CompletionEngine):
    """Writes the rest of `FUNCTION`, a piece at a time; other candidates are shorter."""

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> PacedEngine:
        """Nothing to load."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """What the status bar shows."""
        return EngineInfo(engine="paced", model="script", device="cpu")

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the rest of the script after what the text ends with."""
        script = OTHER if request.candidate else FUNCTION
        begun = (n for n in range(len(script), 0, -1) if request.prefix.endswith(script[:n]))
        rest = script[next(begun, len(script)) :]
        hold = Path(os.environ["HOLD"])
        for start in range(0, len(rest), PIECE_CHARS):
            cancel.wait(PIECE_S)
            while start >= N_FREE_PIECES * PIECE_CHARS and hold.exists():
                if cancel.wait(PIECE_S):
                    break
            if cancel.is_cancelled:
                usage.finish_reason = "cancelled"
                return
            yield TextDelta(text=rest[start : start + PIECE_CHARS], logprob=0.0)
        usage.finish_reason = "stop"
