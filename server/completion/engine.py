"""What completes text: a request in, text deltas out, one after another.

This module does not know token ids, tensors or the protocol. Engine plugins subclass
`CompletionEngine`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from server.options import Options, SamplingOptions

OnProgress = Callable[[int], None]
"""Is told how many percent are done."""
MemoryScope = Literal["workspace", "document", "off"]
FinishReason = Literal["stop", "length", "deadline", "cancelled"]


def untold(percent: int) -> None:
    """Take no notice of progress."""


class CancelToken:
    """Asked once to stop, from any thread; looked at between two forward passes.

    Each look is a sign of life of the thread that works: `n_looks` counts them.
    """

    __slots__ = ("_event", "n_looks")

    def __init__(self) -> None:
        self._event = threading.Event()
        self.n_looks = 0

    def cancel(self) -> None:
        """Ask for a stop; asking twice changes nothing."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether a stop was asked for."""
        self.n_looks += 1
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until a stop is asked for, at most `timeout_s`; return whether it was."""
        self.n_looks += 1
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
    memory: MemoryScope = "workspace"
    """What the engine may draw on besides its model: all that it has learned, the document alone,
    or nothing."""
    drafts: bool = True
    """Whether text that is there already may be drafted; changes the answer nowhere but where
    rounding decides between two tokens."""
    other_licences: bool = True
    """Whether texts may be drawn on whose header names another licence than the document's."""
    single_line: bool = False
    """A hint that nothing after the first line end will be shown."""
    is_explicit: bool = False
    """The user asked for it: an engine may take more time for a better answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """Where a long run of the completion stands word for word."""

    path: str
    """Of a text that was learned, relative to the workspace."""
    line: int
    """Of its first character, from 1 on."""
    n_tokens: int
    """Length of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of completion text; never empty, never half a character."""

    text: str
    logprob: float
    """Natural log of the probability of the tokens in this delta, given all before."""
    copied_from: CopySource | None = None
    """The run that ends with this delta, where it is long; None also where nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceFile:
    """A text that the engine may learn from: a file of the workspace, or an open document as it is
    in the editor.
    """

    path: str
    """Relative to the workspace, with forward slashes; names the source. A file and its open
    document share it."""
    text: str
    """With LF line ends."""
    is_open: bool = False
    """It is open in the editor: what stands here counts as near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInfo:
    """How much the engine knows of the workspace, and whether that helped."""

    n_files: int = 0
    n_tokens: int = 0
    n_bytes: int = 0
    """Memory that the index holds, by its own count."""
    n_left_out: int = 0
    """Files that the bound in bytes left no room for."""
    n_answers: int = 0
    """Answers that were made since the start."""
    n_helped: int = 0
    """Those of them in which the memory changed or vouched for a token, or drafted one."""

    @property
    def told(self) -> str:
        """How much is known, in words."""
        room = f", no room for {self.n_left_out:,} more" if self.n_left_out else ""
        size = f"{self.n_tokens:,} tokens, {self.n_bytes / 1e6:.1f} MB"
        return f"{self.n_files:,} files, {size}{room}"


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
    """Completes text. Every method is called from one worker thread, one call at a time, except for
    those on memory (`learn`, `unlearn`, `memory`), which any thread may call at any moment.

    A plugin's class is found through the entry-point group `foretype.engines` and made by `load`.
    """

    @classmethod
    @abstractmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> CompletionEngine:
        """Make the engine ready to answer; may take seconds.

        Args:
            options: the settings.
            on_progress: may be told how many percent are done; editors show it.

        Raises:
            CompletionServerError: it cannot be made; the message says what to set.
        """

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What really runs now."""

    @property
    def is_loading(self) -> bool:
        """Whether it loads something now, so that its silence means nothing yet."""
        return False

    def after_hang(self, reason: str) -> CompletionEngine | None:
        """Return an engine to go on with when a call of this one does not come back.

        Called on another thread while that call still hangs, so it shares nothing with this engine
        that the call may be changing. None: a new engine is loaded in its place.

        Args:
            reason: why this one was given up, for the status.

        Raises:
            CompletionServerError: there is nothing to go on with; the message says why.
        """
        return None

    def warm(self, request: EngineRequest, cancel: CancelToken) -> None:  # noqa: B027 - optional
        """Do the work that a `stream` of the same request can reuse; return soon after a cancel."""

    def warm_ahead(self, request: EngineRequest, cancel: CancelToken) -> int:
        """Do in idle time the work that later requests of a document will need, where typing goes
        on after this one; return soon after a cancel.

        Called after answers, when nobody waits. Called again it goes on where it was stopped.

        Returns:
            How many tokens were prefilled, for the counters.
        """
        return 0

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

    def learn(  # noqa: B027 - optional
        self, files: Iterable[WorkspaceFile], cancel: CancelToken
    ) -> None:
        """Take texts into the memory of the workspace, in place of what was known of their paths.

        Asked for the next text, `files` may wait as long as somebody waits for a completion.
        May be called from any thread, also while `stream` runs on another: an answer in the making
        sees the memory as it was or as it is now, never half of it. Two calls at once wait for each
        other. Returns when all is known, or soon after a cancel with a part of it known.
        """

    def unlearn(self, paths: Sequence[str]) -> None:  # noqa: B027 - optional
        """Drop texts from the memory: from the next token on they say nothing.

        May be called from any thread; never waits for a `learn`.

        Args:
            paths: of files, exactly as they were learned; a folder's name stands for no file.
        """

    @property
    def memory(self) -> MemoryInfo:
        """How much is known of the workspace; may be asked from any thread."""
        return MemoryInfo()

    def close(self) -> None:  # noqa: B027 - optional
        """Give back what the engine holds."""
