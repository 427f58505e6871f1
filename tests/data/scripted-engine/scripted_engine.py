"""An engine for tests of the whole server: what it says is looked up by the document's name."""

from __future__ import annotations

import json
import math
import os
import re
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


class ScriptedEngine(CompletionEngine):
    """Says, in a document below `/case7/`, the pieces that the script has at 7."""

    def __init__(self, script: list[list[tuple[str, float]]]) -> None:
        self._script = script

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> ScriptedEngine:
        """Read the script, JSON, from the file that the environment names."""
        text = Path(os.environ["FORETYPE_TEST_SCRIPT"]).read_text(encoding="utf-8")
        return cls(json.loads(text))

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine="scripted", model="script")

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the pieces of the document's case."""
        match = re.search(r"/case(\d+)/", request.document)
        pieces = self._script[int(match[1])] if match else []
        for text, probability in pieces[: request.max_new_tokens]:
            if cancel.is_cancelled:
                return
            usage.new_tokens += 1
            yield TextDelta(text=text, logprob=math.log(probability))
        is_cut = usage.new_tokens >= request.max_new_tokens
        usage.finish_reason = "length" if is_cut else "stop"
