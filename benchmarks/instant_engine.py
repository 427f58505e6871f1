"""An engine without a model, for the soak: what it says follows from the prefix alone, at once.

Does not know the soak. Most completions are a line, some are several, a few are empty.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from benchmarks.engine_plugin import EngineWithoutModel
from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    TextDelta,
)

PIECE_S = 0.001
"""Between two pieces, so that cancellations fall between them. Chosen, not measured."""
TEXTS = (
    "value = compute(first, second)\n",
    "result.append(item)\n    total += item.size\n    return total\n",
    "for key in sorted(table):\n        print(key, table[key])\n",
    "self.name)\n",
    "",
)


class InstantEngine(EngineWithoutModel):
    """Says one of a few texts, word by word."""

    name = "instant"

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
