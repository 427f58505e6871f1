"""An engine without a model, for the soak: what it says follows from the prefix alone, at once.

Does not know the soak. Most completions are a line, some are several, a few are empty.
"""

from __future__ import annotations

import re
import zlib
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

NAME = "instant"
PIECE_S = 0.001
"""Between two pieces, so that cancellations fall between them. Chosen, not measured."""
TEXTS = (
    "value = compute(first, second)\n",
    "result.append(item)\n    total += item.size\n    return total\n",
    "for key in sorted(table):\n        print(key, table[key])\n",
    "self.name)\n",
    "",
)
ENTRY_POINTS = f"[foretype.engines]\n{NAME} = {__name__}:InstantEngine\n"


class InstantEngine(CompletionEngine):
    """Says one of a few texts, word by word."""

    @classmethod
    def load(cls, options: Options) -> InstantEngine:
        """Nothing is loaded."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine=NAME, model="none")

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the text that the end of the prefix stands for."""
        chosen = zlib.crc32(request.prefix[-40:].encode()) % len(TEXTS)
        for piece in re.findall(r"\s*\S+|\s+", TEXTS[chosen])[: request.max_new_tokens]:
            if cancel.wait(PIECE_S):
                usage.finish_reason = "cancelled"
                return
            usage.new_tokens += 1
            yield TextDelta(text=piece, logprob=-0.1)
        usage.finish_reason = "stop"


def install(folder: Path) -> None:
    """Write what makes the engine a plugin of a server that has `folder` on its path."""
    info = folder / "instant_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: instant-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
