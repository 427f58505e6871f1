"""Plugins whose errors hold the user's text, as a careless author's would."""

from __future__ import annotations

import threading
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
from server.completion.filters import Draft
from server.completion.request import CompletionRequest
from server.options import Options


class TellingEngine(CompletionEngine):
    """Raises what it was asked: as it warms, on a thread of its own, at last as it answers."""

    def __init__(self) -> None:
        self._n_asked = 0

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> TellingEngine:
        """Nothing is loaded."""
        return cls()

    @property
    def info(self) -> EngineInfo:
        """A name for the status."""
        return EngineInfo(engine="telling", model="none")

    def warm(self, request: EngineRequest, cancel: CancelToken) -> None:
        """Raise the prefix, caused by another error that holds it."""
        try:
            raise KeyError(request.prefix)
        except KeyError as exc:
            raise ValueError(request.prefix) from exc

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Say something the first time; then raise."""
        self._n_asked += 1
        lost = threading.Thread(target=fail, args=[request.prefix])
        lost.start()
        lost.join()
        if self._n_asked > 1:
            fail(request.prefix)
        yield TextDelta(text=f"{request.prefix.split()[0]}()\n", logprob=-0.1)


def fail(text: str) -> None:
    """Raise a text."""
    raise RuntimeError(f"can't complete {text!r}")


def telling_filter(draft: Draft) -> str:
    """Raise what was to be shown."""
    raise LookupError(draft.prefix + draft.text)


def telling_context(request: CompletionRequest) -> str:
    """Raise the document's text."""
    raise OSError(request.prefix)
