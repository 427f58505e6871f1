"""What a network expects to come next: one row of the vocabulary, normalized when it is asked for.

Does not know what a network is, nor how a token is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

LogProbs = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]


class Prediction(Protocol):
    """How likely each token is after those that the network has seen; valid until its next pass."""

    @property
    def best_id(self) -> int:
        """The likeliest token."""

    @property
    def best_logprob(self) -> float:
        """The natural log of its probability."""

    def log_probs(self) -> LogProbs:
        """Return normalized log-probabilities, [V], a new array."""


class LogitsPrediction:
    """A prediction from logits, of which no more is computed than is asked for."""

    def __init__(self, logits: Logits) -> None:
        """Keep a row.

        Args:
            logits: [V], unnormalized; -inf stays -inf.
        """
        self._logits = logits

    @cached_property
    def best_id(self) -> int:
        """The likeliest token."""
        return int(self._logits.argmax())

    @cached_property
    def best_logprob(self) -> float:
        """The natural log of its probability."""
        return float(self._logits[self.best_id]) - log_sum_exp(self._logits)

    def log_probs(self) -> LogProbs:
        """Normalize the row."""
        return log_softmax(self._logits)


class NormalizedPrediction:
    """A prediction whose likeliest token is known; its row is fetched when it is asked for."""

    def __init__(self, best_id: int, best_logprob: float, fetch: Callable[[], LogProbs]) -> None:
        self.best_id = best_id
        self.best_logprob = best_logprob
        self._fetch = fetch

    def log_probs(self) -> LogProbs:
        """Fetch the row."""
        return self._fetch()


def log_sum_exp(logits: Logits) -> float:
    """Return log(sum(exp(logits))) without overflow.

    Args:
        logits: [V], unnormalized.
    """
    peak = float(logits.max())
    return peak + math.log(float(np.exp(logits - np.float32(peak)).sum(dtype=np.float64)))


def log_softmax(logits: Logits) -> LogProbs:
    """Return normalized log-probabilities.

    Args:
        logits: [V], unnormalized; -inf stays -inf.

    Returns:
        [V], a new array.
    """
    return logits - np.float32(log_sum_exp(logits))
