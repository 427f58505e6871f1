"""Token healing: the cursor may stand anywhere in a word, though tokens end elsewhere.

The last tokens before the cursor are taken back, and the first generated tokens must spell the
bytes that were taken back; so the network chooses the tokens that it was trained on. Knows tokens
as bytes, never as text; does not know networks.

Source: the "token healing" of guidance, https://github.com/guidance-ai/guidance.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from server.backends.predictions import LogProbs, log_softmax
from server.decoding.sampling import IdArray, Processor

MAX_HEALED_TOKENS = 3  # Quoted: as many as JetBrains' full-line completion takes back.


class Vocabulary:
    """The tokens of a vocabulary in the order of their bytes, so that a start is one range."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        """Sort a vocabulary.

        Args:
            token_bytes: [V]; tokens without bytes are left out: no text contains them.
        """
        ids = sorted((i for i, text in enumerate(token_bytes) if text), key=token_bytes.__getitem__)
        self.token_bytes = token_bytes
        self.silent_ids = tuple(i for i, text in enumerate(token_bytes) if not text)
        """Tokens without bytes: special ones, and those that the tokenizer doesn't know."""
        self._ids: IdArray = np.array(ids, np.int64)
        self._sorted = [token_bytes[i] for i in ids]

    def starting_with(self, start: bytes) -> IdArray:
        """Return the tokens whose bytes start with `start`, which is not empty."""
        return self._ids[bisect_left(self._sorted, start) : self._end_of_start(start)]

    def equal_to(self, text: bytes) -> IdArray:
        """Return the tokens with exactly these bytes."""
        first = bisect_left(self._sorted, text)
        return self._ids[first : bisect_left(self._sorted, text + b"\0", first)]

    def _end_of_start(self, start: bytes) -> int:
        """Return the place in the order after the last token that starts with `start`."""
        stem = start.rstrip(b"\xff")  # After a last byte of 255 comes its left neighbour plus one.
        if not stem:
            return len(self._sorted)
        return bisect_left(self._sorted, stem[:-1] + bytes([stem[-1] + 1]))


def count_healed(
    token_bytes: Sequence[bytes], token_ids: Sequence[int], n_last_word_tokens: int
) -> int:
    """Return how many tokens to take back: the last word, at most `MAX_HEALED_TOKENS`.

    Args:
        token_bytes: [V].
        token_ids: of the text before the cursor.
        n_last_word_tokens: how many of them the last word has.
    """
    limit = min(n_last_word_tokens, MAX_HEALED_TOKENS, len(token_ids))
    n_healed = 0
    while n_healed < limit and token_bytes[token_ids[-1 - n_healed]]:
        n_healed += 1
    return n_healed


def spelled(token_bytes: Sequence[bytes], token_ids: Iterable[int]) -> bytes:
    """Return the bytes of some tokens."""
    return b"".join(token_bytes[i] for i in token_ids)


def make_healing(vocabulary: Vocabulary, healed: bytes) -> Processor:
    """Return a processor that makes the generated tokens spell `healed` first.

    As long as bytes are missing it leaves the tokens that are a part of the rest, if the vocabulary
    can spell what remains after them, and those that go past it; their probabilities are scaled to
    one, so that they say how likely a continuation is, given what stands there. Where no token
    fits, it constrains nothing.

    Args:
        vocabulary: of the network.
        healed: bytes of the tokens that were taken back.
    """
    allowed = _allowed_tokens(vocabulary, healed)

    def process(generated: Sequence[int], log_probs: LogProbs) -> LogProbs:
        n_done = 0
        for token_id in generated:
            n_done += len(vocabulary.token_bytes[token_id])
            if n_done >= len(healed):
                return log_probs
        if n_done >= len(healed):
            return log_probs
        kept = log_probs[allowed[n_done]]
        if not np.isfinite(kept).any():
            return log_probs
        constrained = np.full_like(log_probs, -np.inf)
        constrained[allowed[n_done]] = log_softmax(kept)
        return constrained

    return process


def _allowed_tokens(vocabulary: Vocabulary, healed: bytes) -> list[IdArray]:
    """Return, for each number of bytes that are done, the tokens from which the end is in reach."""
    allowed: list[IdArray] = [np.zeros(0, np.int64)] * len(healed)
    for start in reversed(range(len(healed))):
        ways = [vocabulary.starting_with(healed[start:])]
        for end in range(start + 1, len(healed)):
            if len(allowed[end]):
                ways.append(vocabulary.equal_to(healed[start:end]))
        allowed[start] = np.concatenate(ways)
    return allowed
