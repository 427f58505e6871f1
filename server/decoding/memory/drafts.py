"""How long a draft pays: as long as the chance that its next token is right outweighs its cost.

Both are measured while the server runs. Reads no clock: times are arguments.
"""

from __future__ import annotations

import numpy as np

from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.stream import MAX_MATCH_TOKENS

MAX_DRAFT_TOKENS = 16  # A line of code has 12 tokens on average. Measured on the training corpus.
# A drafted token costs so much of a pass before anything was measured. Measured: eight tokens at
# once take twice as long as one, with int8 weights on a CPU.
EXTRA_COST = 0.14
PRIOR_TOKENS = 20.0  # The fitted acceptance counts as so many tokens that were seen. Guessed.
MOST_TOKENS = 200.0  # What was seen before counts as no more than this. Guessed.
COST_SHARE = 0.1  # Of a new time in the running means. Guessed.


class Pace:
    """What drafts cost and how often they are right: of one engine, from answer to answer."""

    def __init__(self, coefficients: Coefficients) -> None:
        """Start from what was fitted."""
        self._n_seen = np.full(MAX_MATCH_TOKENS + 1, PRIOR_TOKENS)
        self._n_right = PRIOR_TOKENS * coefficients.acceptance_table
        self._pass_s: float | None = None
        self._extra_s: float | None = None

    @property
    def extra_cost(self) -> float:
        """What one more token in a pass costs, as a share of a pass with one."""
        if not self._pass_s or self._extra_s is None:
            return EXTRA_COST
        return self._extra_s / self._pass_s

    def saw(self, length: int, *, was_right: bool) -> None:
        """Count whether the token after a match of this length was the one that came."""
        self._n_seen[length] += 1
        self._n_right[length] += was_right
        if self._n_seen[length] > MOST_TOKENS:
            self._n_seen[length] /= 2
            self._n_right[length] /= 2

    def took(self, n_tokens: int, elapsed_s: float) -> None:
        """Take in how long a pass of so many tokens took."""
        # A pass longer than any draft was a prefill, and says nothing of drafts.
        if n_tokens > MAX_DRAFT_TOKENS + 1:
            return
        if n_tokens == 1:
            self._pass_s = _moved(self._pass_s, elapsed_s)
        elif self._pass_s is not None:
            extra_s = max(0.0, elapsed_s - self._pass_s) / (n_tokens - 1)
            self._extra_s = _moved(self._extra_s, extra_s)

    def draft_length(self, match_length: int) -> int:
        """Return how many tokens to draft after a match; 0 where a draft does not pay.

        Each token that is accepted spares a pass and makes the match one token longer. Once a draft
        has been cut short, what stands after the cut was run for nothing.
        """
        cost = self.extra_cost
        chance, n_tokens = 1.0, 0
        while n_tokens < MAX_DRAFT_TOKENS:
            length = min(match_length + n_tokens, MAX_MATCH_TOKENS)
            chance *= self._n_right[length] / self._n_seen[length]
            if chance <= cost:
                break
            n_tokens += 1
        return n_tokens


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + COST_SHARE * (value - mean)
