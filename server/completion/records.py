"""What happened: counts, times and reasons of the requests, never their text. Local only."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

from server.completion.engine import EngineUsage
from server.completion.request import Answer, CompletionRequest, Source, Trigger

logger = logging.getLogger(__name__)

KEPT_REQUESTS = 100


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened since the start; never sent anywhere by the server."""

    requests: int = 0
    shown: int = 0
    accepted: int = 0
    partially_accepted: int = 0
    ahead_tokens: int = 0
    """Prompt tokens that were prefilled before a request needed them, in idle time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One answered request."""

    document: str
    trigger: Trigger
    source: Source
    reason: str = ""
    n_candidates: int = 0
    shown_chars: int = 0
    is_superseded: bool = False
    total_ms: float = 0.0
    usage: EngineUsage = field(default_factory=EngineUsage)


def new_ring() -> deque[RequestRecord]:
    """Return an empty ring of the last requests, newest last."""
    return deque(maxlen=KEPT_REQUESTS)


def record(request: CompletionRequest, answer: Answer) -> RequestRecord:
    """Return the record of a request, and write it to the log as one line."""
    usage = answer.usage
    logger.info(
        "completion source=%s prompt_tokens=%d reused_tokens=%d new_tokens=%d prefill_ms=%.1f "
        "decode_ms=%.1f total_ms=%.1f finish_reason=%s",
        answer.source,
        usage.prompt_tokens,
        usage.reused_tokens,
        usage.new_tokens,
        usage.prefill_ms,
        usage.decode_ms,
        answer.total_ms,
        usage.finish_reason,
    )
    return RequestRecord(
        document=request.document,
        trigger=request.trigger,
        source=answer.source,
        reason=answer.reason,
        n_candidates=len(answer.candidates),
        shown_chars=sum(len(candidate.text) for candidate in answer.candidates[:1]),
        is_superseded=answer.is_superseded,
        total_ms=answer.total_ms,
        usage=usage,
    )
