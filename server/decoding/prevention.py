"""What the network may not say: masked before a token is chosen, not cut away afterwards.

Pure. Knows tokens as ids and bytes, never as text; what stands around the cursor comes as bytes.
Where a rule would leave nothing to choose, it masks nothing. Loops are not broken here: the
embedded model, kept from a third repetition, wrote nothing better (measured on 87 cursors of
development packages: 3 completions changed, all for the worse); the filter for repetition ends the
text instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.backends.predictions import LogProbs
from server.decoding.healing import Vocabulary
from server.decoding.sampling import IdArray, Processor


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


def _without(log_probs: LogProbs, token_ids: IdArray) -> LogProbs:
    """Return log-probabilities [V] with some tokens masked, if any other is left."""
    if not np.isfinite(log_probs[token_ids]).any():
        return log_probs
    masked = log_probs.copy()
    masked[token_ids] = -np.inf
    return masked if np.isfinite(masked).any() else log_probs
