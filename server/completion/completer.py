"""One request's life: gates, cache, debounce, generation, growing text, one answer.

Does not know the protocol, token ids or tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server.completion.engine import EngineUsage
from server.completion.request import Answer, Candidate, CompletionRequest, Source, Trigger
from server.completion.scheduler import Clock, MonotonicClock
from server.completion.status import Status
from server.options import Options
from server.plugins import Plugins

OnGrowth = Callable[[tuple[Candidate, ...]], None]


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened since the start; local, never sent anywhere by the server."""

    requests: int = 0
    shown: int = 0
    accepted: int = 0
    partially_accepted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One answered request: counts, times and reasons, never text."""

    document: str
    trigger: Trigger
    source: Source
    reason: str = ""
    n_candidates: int = 0
    shown_chars: int = 0
    is_superseded: bool = False
    total_ms: float = 0.0
    usage: EngineUsage = field(default_factory=EngineUsage)


class Completer:
    """Completes the documents of one server. Every method is called on the event loop."""

    def __init__(
        self,
        options: Options,
        plugins: Plugins,
        *,
        on_status: Callable[[Status], None],
        clock: Clock | None = None,
    ) -> None:
        self.counters = Counters()
        self.requests: deque[RequestRecord] = deque(maxlen=100)
        """The last requests, newest last."""
        self.status = Status(state="loading")
        self._options = options
        self._plugins = plugins
        self._on_status = on_status
        self._clock = clock or MonotonicClock()

    def start(self) -> None:
        """Load the engine in the background; `on_status` tells how it went."""
        raise NotImplementedError

    async def wait_ready(self) -> bool:
        """Wait until the engine is loaded; False if it cannot be (the status says why)."""
        raise NotImplementedError

    async def complete(
        self, request: CompletionRequest, on_growth: OnGrowth | None = None
    ) -> Answer:
        """Answer one request, exactly once.

        Args:
            request: text, cursor and trigger.
            on_growth: is given the candidates so far, each text extending the earlier one.

        Raises:
            asyncio.CancelledError: the task was cancelled; the engine is told to stop.
        """
        raise NotImplementedError

    def warm(self, request: CompletionRequest) -> None:
        """Prefill in the background what a request at this place would need."""
        raise NotImplementedError

    def document_closed(self, document: str) -> None:
        """Forget a document."""
        raise NotImplementedError

    def set_options(self, options: Options) -> None:
        """Use other settings from the next request on."""
        self._options = options

    def shown(self, completion_id: str) -> None:
        """Count a completion that the editor showed."""
        raise NotImplementedError

    def accepted(self, completion_id: str) -> None:
        """Count a completion that was accepted as a whole."""
        raise NotImplementedError

    def partially_accepted(self, completion_id: str, n_chars: int) -> None:
        """Count a completion of which the first `n_chars` code points were accepted."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop the engine and give back what it holds; open requests are answered first."""
        raise NotImplementedError
