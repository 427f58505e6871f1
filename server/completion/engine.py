"""What completes text: a request in, text deltas out, one after another.

This module does not know token ids, tensors or the protocol. Engine plugins subclass
`CompletionEngine`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from server.options import Options, SamplingOptions

FinishReason = Literal["stop", "length", "deadline", "cancelled"]


class CancelToken:
    """Asked once to stop, from any thread; looked at between two forward passes."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for a stop; asking twice changes nothing."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until a stop is asked for, at most `timeout_s`; return whether it was."""
        return self._event.wait(timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What an engine is asked: text around the cursor, with LF line ends and no lone surrogates."""

    document: str
    """Names the document (a URI): requests of one document share what the engine remembers."""
    prefix: str
    """Text before the cursor; at least all that the engine's window can hold, its start at a line
    start."""
    suffix: str
    """Text after the cursor; may be cut at its end."""
    language: str = "plaintext"
    path: str = ""
    """Path relative to the workspace, or empty; for context, never opened."""
    context: str = ""
    """Text that context sources want in front of the prefix; changes rarely."""
    max_new_tokens: int = 64
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    candidate: int = 0
    """Index of the candidate: 0 is the first; others are sampled so that they differ."""
    single_line: bool = False
    """A hint that nothing after the first line end will be shown."""
    is_explicit: bool = False
    """The user asked for it: an engine may take more time for a better answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of completion text; never empty, never half a character."""

    text: str
    logprob: float
    """Natural log of the probability of the tokens in this delta, given all before."""


@dataclass(slots=True, kw_only=True)
class EngineUsage:
    """Counts and times of one request, filled in while the engine runs."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    prefilled_tokens: int = 0
    new_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    finish_reason: FinishReason | None = None
    """Why the engine ended by itself: the end token, the token limit or a cancellation; None while
    it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What really runs, for the log, `doctor` and the status."""

    engine: str
    model: str
    backend: str = ""
    provider: str = ""
    device: str = ""
    dtype: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class CompletionEngine(ABC):
    """Completes text. Every method is called from one worker thread, one call at a time.

    A plugin's class is found through the entry-point group `foretype.engines` and made by `load`.
    """

    @classmethod
    @abstractmethod
    def load(cls, options: Options) -> CompletionEngine:
        """Make the engine ready to answer; may take seconds.

        Raises:
            CompletionServerError: it cannot be made; the message says what to set.
        """

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What really runs now."""

    def warm(self, request: EngineRequest, cancel: CancelToken) -> None:  # noqa: B027 - optional
        """Do the work that a `stream` of the same request can reuse; return soon after a cancel."""

    @abstractmethod
    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the completion piece by piece until its end, the token limit or a cancellation.

        The consumer may close the iterator at any moment; what was computed stays reusable.

        Raises:
            EngineError, BackendError: it cannot answer.
        """

    def rate(self, request: EngineRequest, text: str, cancel: CancelToken) -> float | None:
        """Return the log-probability per token of a text after the request's prefix.

        Tells which of several candidates fits what stands after the cursor. None: the engine can't
        tell, or a stop was asked for.
        """
        return None

    def forget(self, document: str) -> None:  # noqa: B027 - optional
        """Drop what is remembered of a closed document."""

    def close(self) -> None:  # noqa: B027 - optional
        """Give back what the engine holds."""
