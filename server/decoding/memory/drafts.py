"""How long a draft pays: as long as the chance that its next token is right outweighs its cost.

Both are measured while the server runs. Reads no clock: times are arguments.
"""

from __future__ import annotations

from math import isfinite
from statistics import linear_regression

import numpy as np

from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.stream import MAX_MATCH_TOKENS

MAX_DRAFT_TOKENS = 16  # A line of code has 12 tokens on average. Measured on the training corpus.
# Passes with one token and with several are different: matrices take another way. What several cost
# before anything was measured, as shares of a pass with one. Measured: the embedded model with int8
# weights, 2 CPU cores.
FIRST_COST = 2.0
EXTRA_COST = 0.5
PRIOR_TOKENS = 20.0  # The fitted acceptance counts as so many tokens that were seen. Guessed.
MOST_TOKENS = 200.0  # What was seen before counts as no more than this. Guessed.
COST_SHARE = 0.1  # Of a new time in the running means. Guessed.
GAIN_SHARE = 0.05  # Of a new look-up in the running mean of what they bring. Guessed.
LOOK_S = 0.000_06  # A look-up takes so long. Measured, compiled: 2 million tokens, 2 CPU cores.
REST_TOKENS = 8  # Where looking does not pay, it is done for one token in so many. Guessed.


class Pace:
    """What drafts cost and how often they are right: of one engine, from answer to answer."""

    def __init__(self, coefficients: Coefficients) -> None:
        """Start from what was fitted."""
        self._n_seen = np.full(MAX_MATCH_TOKENS + 1, PRIOR_TOKENS)
        self._n_right = PRIOR_TOKENS * coefficients.acceptance_table
        # Running means, by how many tokens a pass had; nan where none was timed.
        self._pass_s = np.full(MAX_DRAFT_TOKENS + 2, np.nan)
        self._gain = 1.0
        """Running mean of the drafted tokens that were accepted, by look-up."""
        self._costs: list[float] = []
        self._lengths: dict[int, int] = {}
        """Of drafts, by the length of the match; chosen when they are asked for."""
        self.review()

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
        if n_tokens < len(self._pass_s):
            mean = self._pass_s[n_tokens]
            moved = mean + COST_SHARE * (elapsed_s - mean)
            self._pass_s[n_tokens] = elapsed_s if np.isnan(mean) else moved

    def gained(self, n_accepted: int) -> None:
        """Take in how many drafted tokens a look-up brought."""
        self._gain += GAIN_SHARE * (n_accepted - self._gain)

    def is_worth_looking(self, n_generated: int) -> bool:
        """Return whether a look-up for nothing but a draft pays after so many tokens.

        Where it does not, it is still done now and then, so that better times are noticed.
        """
        pass_s = self._pass_s[1]
        pays = not isfinite(pass_s) or self._gain * pass_s > LOOK_S
        return pays or n_generated % REST_TOKENS == 0

    def costs(self) -> list[float]:
        """Return what passes with one token, two, and so on cost, as shares of one with one.

        Those with several lie on a line through what was measured.
        """
        numbers = range(2, MAX_DRAFT_TOKENS + 2)
        shares = (self._pass_s[2:] / self._pass_s[1]).tolist()
        measured = [point for point in zip(numbers, shares, strict=True) if isfinite(point[1])]
        if len(measured) < 2:
            return [1.0, *(FIRST_COST + EXTRA_COST * (n - 2) for n in numbers)]
        line = linear_regression(*zip(*measured, strict=True))
        slope = max(0.0, line.slope)
        return [1.0, *(max(1.0, line.intercept + slope * n) for n in numbers)]

    def draft_length(self, match_length: int) -> int:
        """Return how many tokens to draft after a match; 0 where a draft does not pay."""
        if match_length not in self._lengths:
            chances = (self._n_right / self._n_seen).tolist()
            self._lengths[match_length] = _best_length(match_length, chances, self._costs)
        return self._lengths[match_length]

    def review(self) -> None:
        """Choose the lengths of drafts anew, so that most tokens come per time.

        Each token that is accepted spares a pass and makes the match one token longer. Once a draft
        has been cut short, what stands after the cut was run for nothing.
        """
        self._costs = self.costs()
        self._lengths = {}


def _best_length(match_length: int, chances: list[float], costs: list[float]) -> int:
    """Return the length of a draft that gives most tokens per time.

    Args:
        match_length: tokens of the match.
        chances: that the next token is right, by the length of the match.
        costs: of passes with one token, two, and so on.
    """
    chance, n_expected = 1.0, 1.0
    best, best_rate = 0, 1.0
    for n_drafted, cost in enumerate(costs[1:], 1):
        chance *= chances[min(match_length + n_drafted - 1, MAX_MATCH_TOKENS)]
        n_expected += chance
        if n_expected / cost > best_rate:
            best, best_rate = n_drafted, n_expected / cost
    return best
