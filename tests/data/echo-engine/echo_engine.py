"""An engine for tests of the server: what it says tells what it was asked, step by step."""

from __future__ import annotations

import os
from collections.abc import Iterator

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


class EchoEngine(CompletionEngine):
    """Says `echo_N(one, two)` where N is the length of the prefix, a piece per step."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> EchoEngine:
        """Print where an engine has no business to print: stdout is the protocol's."""
        print("a stray line", flush=True)  # noqa: T201 - the point of it
        os.write(1, b"a stray line from C\n")
        return cls(float(os.environ.get("FORETYPE_TEST_STEP_S", "0")))

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine="echo", model="echo")

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield four pieces."""
        for text in ("echo_", str(len(request.prefix)), "(one, ", "two)"):
            if cancel.wait(self._step_s) or cancel.is_cancelled:
                usage.finish_reason = "cancelled"
                return
            usage.new_tokens += 1
            yield TextDelta(text=text, logprob=-0.1)
        usage.finish_reason = "stop"
