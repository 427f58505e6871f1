"""An engine without a model: the rest of the latest earlier line that starts like this one."""

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


class RecallEngine(CompletionEngine):
    """Completes a line from the lines above it."""

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> "RecallEngine":
        """Nothing to load."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """What the status bar and `doctor` show."""
        return EngineInfo(engine="recall", model="lines of the document")

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the rest of the line that was found, in one piece, or nothing."""
        *earlier, typed = request.prefix.split("\n")
        for line in reversed(earlier):
            if typed.strip() and line.startswith(typed) and line != typed:
                usage.finish_reason = "stop"
                yield TextDelta(text=line[len(typed) :] + "\n", logprob=0.0)
                return
