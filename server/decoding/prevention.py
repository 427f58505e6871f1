"""What the network may not say: masked before a token is chosen, not cut away afterwards.

Pure rules on log-probabilities. Knows tokens as ids and bytes, never as text; what stands around
the cursor comes as bytes. Where a rule would leave nothing to choose, it masks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.decoding.healing import Vocabulary
from server.decoding.sampling import IdArray, LogProbs, Processor

MAX_PERIOD_TOKENS = 24  # The longest loop that is noticed: about two lines. Guessed.
# As the filter for repetition has it: five times a short piece, three times a long one.
SHORT_PERIOD_TOKENS = 3
SHORT_REPEATS = 5
LONG_REPEATS = 3


def forbid_start(vocabulary: Vocabulary, healed: bytes, start: bytes) -> Processor:
    """Return a processor that keeps the new text from beginning with some bytes.

    New is what comes after the healed bytes; a token that ends them may begin the new text.

    Args:
        vocabulary: of the network.
        healed: bytes that the generated tokens spell first.
        start: what may not come then; not empty.
    """
    forbidden = [vocabulary.starting_with(healed[n:] + start) for n in range(len(healed) + 1)]

    def process(generated: Sequence[int], log_probs: LogProbs) -> LogProbs:
        n_done = 0
        for token_id in generated:
            n_done += len(vocabulary.token_bytes[token_id])
            if n_done > len(healed):
                return log_probs
        return _without(log_probs, forbidden[n_done])

    return process


def forbid_loops(generated: Sequence[int], log_probs: LogProbs) -> LogProbs:
    """Mask the tokens that would complete one repetition too many; a `Processor`.

    A loop is a group of tokens that was generated again and again, up to the last one.
    """
    looping = loop_continuations(generated)
    return _without(log_probs, np.array(looping, np.int64)) if looping else log_probs


def loop_continuations(generated: Sequence[int]) -> list[int]:
    """Return the tokens that would complete a loop's last allowed repetition, or go on after it."""
    n = len(generated)
    found = []
    for period in range(1, min(MAX_PERIOD_TOKENS, n // (LONG_REPEATS - 1)) + 1):
        n_repeats = SHORT_REPEATS if period <= SHORT_PERIOD_TOKENS else LONG_REPEATS
        n_equal = period * (n_repeats - 1) - 1
        if n - period < n_equal:
            continue
        if all(generated[n - i] == generated[n - i - period] for i in range(1, n_equal + 1)):
            found.append(generated[n - period])
    return found


def _without(log_probs: LogProbs, token_ids: IdArray) -> LogProbs:
    """Return log-probabilities [V] with some tokens masked, if any other is left."""
    if not np.isfinite(log_probs[token_ids]).any():
        return log_probs
    masked = log_probs.copy()
    masked[token_ids] = -np.inf
    return masked if np.isfinite(masked).any() else log_probs
