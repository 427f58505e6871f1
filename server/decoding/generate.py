"""Prefill and decode: token ids in, one chosen token after another out.

Pure but for the sequence that it drives: time, cancellation and choice are arguments. Does not know
text, nor what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from server.backends.predictions import Prediction
from server.decoding.kv_caches import CachedSequence
from server.decoding.sampling import Choose, ChosenToken

# A cancelled prefill stops after one chunk. Measured, see docs/performance.md: chunks of half the
# size take a tenth longer in all. Where nobody waits that is no loss, and they are less in the way.
PREFILL_CHUNK_TOKENS = 64
AHEAD_CHUNK_TOKENS = 32

FinishReason = Literal["stop", "length", "cancelled"]

Propose = Callable[[Sequence[int]], Sequence[int]]
"""The tokens generated so far in, tokens that probably follow them out. They are verified in one
pass and change nothing but the number of passes."""

Timed = Callable[[int], AbstractContextManager[None]]
"""The number of tokens of a pass in, what is put around the pass out."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far one answer has come; outlives the sequence that it was begun on."""

    generated: list[int] = field(default_factory=list)
    """All tokens so far, accepted drafts and healed ones included."""
    n_drafted: int = 0
    n_accepted: int = 0
    finish_reason: FinishReason | None = None
    """None while it runs."""


def no_draft(generated: Sequence[int]) -> Sequence[int]:
    """Propose nothing."""
    return ()


def prefill(
    sequence: CachedSequence,
    token_ids: Sequence[int],
    *,
    is_cancelled: Callable[[], bool],
    n_left: int = 0,
    chunk_tokens: int = PREFILL_CHUNK_TOKENS,
) -> bool:
    """Run the tokens that a sequence lacks, chunk by chunk.

    Args:
        sequence: holds a front of `token_ids`.
        token_ids: the whole prompt.
        is_cancelled: asked before each chunk; what was run by then stays in the cache.
        n_left: stop as soon as no more than this many tokens are lacking.
        chunk_tokens: the most that one pass takes.

    Returns:
        Whether it came to its end.
    """
    while len(token_ids) - sequence.n_tokens > n_left:
        if is_cancelled():
            return False
        end = min(sequence.n_tokens + chunk_tokens, len(token_ids))
        sequence.forward(token_ids[sequence.n_tokens : end], n_rows=0)
    return True


def generate_tokens(
    sequence: CachedSequence,
    prompt: Sequence[int],
    progress: Progress,
    *,
    choose: Choose,
    end_ids: frozenset[int],
    max_new_tokens: int,
    is_cancelled: Callable[[], bool],
    propose: Propose = no_draft,
    timed: Timed | None = None,
) -> Iterator[ChosenToken]:
    """Yield token after token, until `progress` has a finish reason.

    A drafted token is accepted where it is the one that would have been chosen anyway, so drafts
    never change what is generated, as far as a pass with several tokens computes what passes with
    one do: kernels may sum in another order.

    Args:
        sequence: holds a front of prompt and generated tokens; what it lacks is run first.
        prompt: at least one token.
        progress: may have tokens already; each new token is added before it is yielded, so that a
            caller can go on elsewhere from there.
        choose: asked once for each token, in order.
        end_ids: tokens that end the text; never yielded.
        max_new_tokens: limit of all generated tokens.
        is_cancelled: asked before each pass.
        propose: asked before each pass.
        timed: put around each pass.
    """
    generated = progress.generated
    while True:
        n_seen = len(prompt) + len(generated)
        if len(generated) >= max_new_tokens or n_seen > sequence.n_ctx:
            progress.finish_reason = "length"
            return
        if is_cancelled():
            progress.finish_reason = "cancelled"
            return
        n_useful = min(max_new_tokens - len(generated) - 1, sequence.n_ctx - n_seen)
        draft = list(propose(generated))[:n_useful]
        # A pass needs a token to predict after, even if the cache holds them all.
        sequence.truncate(n_seen - 1)
        lacking = [*prompt, *generated][sequence.n_tokens :]
        with timed(len(lacking) + len(draft)) if timed is not None else nullcontext():
            predictions = sequence.forward(lacking + draft, n_rows=len(draft) + 1)
        chosen = _verify(predictions, generated, draft, choose, end_ids)
        sequence.truncate(n_seen + len(chosen) - 1)
        progress.n_drafted += len(draft)
        progress.n_accepted += len(chosen) - 1
        for token in chosen:
            if token.token_id in end_ids:
                progress.finish_reason = "stop"
                return
            generated.append(token.token_id)
            yield token


def _verify(
    predictions: Sequence[Prediction],
    generated: Sequence[int],
    draft: Sequence[int],
    choose: Choose,
    end_ids: frozenset[int],
) -> list[ChosenToken]:
    """Return the tokens that are chosen in a row: accepted ones of the draft, then one more.

    Args:
        predictions: [len(draft) + 1].
        generated: tokens before the first prediction.
        draft: prediction i is of what follows draft[:i].
        choose: asked once for each token that is returned.
        end_ids: after one of these nothing is chosen any more.
    """
    chosen: list[ChosenToken] = []
    so_far = list(generated)
    for prediction, drafted in zip(predictions, [*draft, None], strict=True):
        token = choose(so_far, prediction)
        chosen.append(token)
        if token.token_id != drafted or token.token_id in end_ids:
            break
        so_far.append(token.token_id)
    return chosen
