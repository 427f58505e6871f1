"""Runs prompts on the present backend, and on the next one when it fails.

Owns the KV caches. Does not know text, nor how a backend is chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from server.backends.contract import Backend
from server.decoding.generate import (
    AHEAD_CHUNK_TOKENS,
    PREFILL_CHUNK_TOKENS,
    Progress,
    Propose,
    Timed,
    generate_tokens,
    no_draft,
    prefill,
)
from server.decoding.kv_caches import CachedSequence, KVCaches
from server.decoding.memory.drafts import Pace
from server.decoding.prompt import Prompt
from server.decoding.sampling import Choose, ChosenToken
from server.errors import BackendFailedError

logger = logging.getLogger(__name__)


class Backends(Protocol):
    """Backends in the order in which they are tried."""

    def current(self) -> Backend:
        """Return the backend that runs now; it is loaded if need be.

        Raises:
            BackendError: none runs.
        """

    def fail(self, exc: BackendFailedError) -> None:
        """Give up the present backend.

        Raises:
            BackendError: there is no other.
        """


class Usage(Protocol):
    """Where counts and times of one answer are noted, while it is made."""

    prompt_tokens: int
    reused_tokens: int
    prefilled_tokens: int
    new_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One answer to be generated."""

    prompt: Prompt
    choose: Choose
    end_ids: frozenset[int]
    """Tokens that end the text."""
    max_new_tokens: int
    is_cancelled: Callable[[], bool]
    owner: str = ""
    """Whose KV caches are used; see `Decoder.forget`."""
    propose: Propose = no_draft
    """Drafts what follows, once all healed tokens are confirmed."""
    pace: Pace | None = None
    """Is told how long passes take."""
    progress: Progress = field(default_factory=Progress)


class Decoder:
    """Turns prompts into tokens; one call at a time, always from the same thread."""

    def __init__(self, backends: Backends, clock: Callable[[], float]) -> None:
        """Start with the present backend.

        Args:
            backends: what runs the network.
            clock: seconds since an arbitrary moment.

        Raises:
            BackendError: no backend runs.
        """
        self._backends = backends
        self._clock = clock
        self._backend = backends.current()
        self._kv_caches = KVCaches(self._backend)

    def warm(self, prompt: Prompt, owner: str, is_cancelled: Callable[[], bool]) -> None:
        """Prefill a prompt, so that a job with the same one finds it done.

        Raises:
            BackendError: the backend failed, and there is no other.
        """
        try:
            with self._caches().lease(prompt.token_ids, owner) as sequence:
                prefill(sequence, prompt.token_ids, is_cancelled=is_cancelled)
        except BackendFailedError as exc:
            self._backends.fail(exc)

    def warm_ahead(
        self,
        prompt: Prompt,
        present: Prompt,
        owner: str,
        is_cancelled: Callable[[], bool],
    ) -> int:
        """Prefill a prompt that will be asked for later, beside the one that is asked for now.

        The last tokens, a short chunk at the most, may be left out: they change with each key, and
        whoever asks runs a pass anyway.

        Args:
            prompt: later on.
            present: now; its KV cache stays as it is.
            owner: whose KV caches are used.
            is_cancelled: asked before each chunk.

        Returns:
            How many tokens were run; 0 also where there is no room for another KV cache.

        Raises:
            BackendError: the backend failed, and there is no other.
        """
        caches = self._caches()
        try:
            with caches.lease_beside(prompt.token_ids, present.token_ids, owner) as sequence:
                if sequence is None:
                    return 0
                n_before = sequence.n_tokens
                prefill(
                    sequence,
                    prompt.token_ids,
                    is_cancelled=is_cancelled,
                    n_left=AHEAD_CHUNK_TOKENS,
                    chunk_tokens=AHEAD_CHUNK_TOKENS,
                )
                return sequence.n_tokens - n_before
        except BackendFailedError as exc:
            self._backends.fail(exc)
            return 0

    def run(self, job: Job, usage: Usage) -> Iterator[ChosenToken]:
        """Yield token after token; `job.progress` says why it ended.

        When a backend fails, the next one is given the prompt and the tokens that there are, and
        goes on: nothing is said twice, nothing is lost.

        Raises:
            BackendError: the backend failed, and there is no other.
        """
        while job.progress.finish_reason is None:
            try:
                yield from self._booked(job, usage)
            except BackendFailedError as exc:
                self._backends.fail(exc)
                n_tokens = len(job.progress.generated)
                logger.warning("the next backend goes on after %d tokens", n_tokens)

    def rate(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        owner: str,
        is_cancelled: Callable[[], bool],
    ) -> float | None:
        """Return the mean log-probability of tokens after a prompt; None if it was cancelled.

        Args:
            prompt_ids: at least one token.
            token_ids: at least one token.
            owner: whose KV caches are used.
            is_cancelled: asked before each pass.

        Raises:
            BackendError: the backend failed, and there is no other.
        """
        given = [*prompt_ids, *token_ids[:-1]]  # The last one is asked for, never given.
        try:
            with self._caches().lease(given, owner) as sequence:
                sequence.truncate(min(sequence.n_tokens, len(prompt_ids) - 1))
                if not prefill(sequence, prompt_ids[:-1], is_cancelled=is_cancelled):
                    return None
                lacking = given[sequence.n_tokens :]
                rows = sequence.forward(lacking, n_rows=len(token_ids))
                logprobs = [
                    float(row.log_probs()[token])
                    for row, token in zip(rows, token_ids, strict=True)
                ]
        except BackendFailedError as exc:
            self._backends.fail(exc)
            return None
        return sum(logprobs) / len(logprobs)

    def forget(self, owner: str) -> None:
        """Give back the KV caches that this owner used last."""
        self._kv_caches.forget(owner)

    def _booked(self, job: Job, usage: Usage) -> Iterator[ChosenToken]:
        """Yield the present backend's tokens and book what they cost; all up to the first token
        is prefill.
        """
        prompt, progress = job.prompt.token_ids, job.progress
        with self._caches().lease([*prompt, *progress.generated], job.owner) as sequence:
            n_reused = min(
                sequence.n_tokens, len(prompt) - 1
            )  # The last one is run for its logits.
            usage.prompt_tokens, usage.reused_tokens = len(prompt), n_reused
            n_prefilled = usage.prefilled_tokens
            started = self._clock()
            is_first = True

            def book() -> None:
                elapsed_ms = 1000 * (self._clock() - started)
                usage.prefill_ms += elapsed_ms if is_first else 0.0
                usage.decode_ms += 0.0 if is_first else elapsed_ms
                n_run = min(sequence.n_tokens, len(prompt)) - n_reused
                usage.prefilled_tokens = n_prefilled + max(0, n_run)
                usage.new_tokens = len(progress.generated)
                usage.drafted_tokens = progress.n_drafted
                usage.accepted_tokens = progress.n_accepted

            for token in _tokens(job, sequence, self._clock):
                book()
                is_first = False
                yield token
                started = self._clock()
            book()

    def _caches(self) -> KVCaches:
        """Return the KV caches of the backend that runs now."""
        backend = self._backends.current()
        if backend is not self._backend:
            self._backend, self._kv_caches = backend, KVCaches(backend)
        return self._kv_caches


def _tokens(
    job: Job, sequence: CachedSequence, clock: Callable[[], float]
) -> Iterator[ChosenToken]:
    """Prefill in chunks, then generate; the last chunk goes with the first token, which spares a
    pass.
    """
    prompt, progress = job.prompt.token_ids, job.progress
    if not prefill(
        sequence,
        [*prompt, *progress.generated],
        is_cancelled=job.is_cancelled,
        n_left=PREFILL_CHUNK_TOKENS,
    ):
        progress.finish_reason = "cancelled"
        return
    yield from generate_tokens(
        sequence,
        prompt,
        progress,
        choose=job.choose,
        end_ids=job.end_ids,
        max_new_tokens=job.max_new_tokens,
        is_cancelled=job.is_cancelled,
        propose=_propose_healed(job.prompt.healed_ids, job.propose),
        timed=_timed(job.pace, clock) if job.pace is not None else None,
    )


def _timed(pace: Pace, clock: Callable[[], float]) -> Timed:
    """Return what tells a pace how long each pass takes."""

    @contextmanager
    def timed(n_tokens: int) -> Iterator[None]:
        begun_s = clock()
        yield
        pace.took(n_tokens, clock() - begun_s)

    return timed


def _propose_healed(healed_ids: tuple[int, ...], then: Propose) -> Propose:
    """Return what proposes the tokens that were taken back, as long as they are confirmed.

    Mostly the network would choose the same ones: then healing costs no pass at all. What follows
    them is drafted along.
    """

    def propose(generated: Sequence[int]) -> Sequence[int]:
        n_done = len(generated)
        if n_done >= len(healed_ids) or tuple(generated) != healed_ids[:n_done]:
            return then(generated)
        return [*healed_ids[n_done:], *then(healed_ids)]

    return propose
