"""What the network expects and what the workspace says, mixed: p = (1 - w) p_network + w p_memory.

Each place that agrees with the context votes for the token that stands there, the more the longer
it agrees and the nearer it is; w comes from a small logistic model. Pure; knows token ids only.
Sources: Grave et al. 2017, "Improving Neural Language Models with a Continuous Cache",
arXiv:1612.04426; Khandelwal et al. 2020, "Generalization through Memorization: Nearest Neighbor
Language Models", arXiv:1911.00172; Hellendoorn and Devanbu 2017, "Are Deep Neural Networks the Best
Choice for Modeling Source Code?".
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.backends.predictions import LogProbs
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.search import Nearness, Places
from server.decoding.sampling import IdArray

LEAST_LOGPROB = -10.0  # Below it the network's opinion of the memory's choice is one and the same.
MOST_WEIGHT = 0.995  # The network always keeps a word. Guessed.


@dataclass(frozen=True, slots=True)
class Votes:
    """What the places say together."""

    ids: IdArray
    """[K], each once."""
    probs: npt.NDArray[np.float64]
    """[K], sums to one."""
    top: int
    """Index into both of the likeliest."""
    evidence: float
    """Log of one plus the weight of all votes."""
    max_length: int
    """Tokens of the longest match."""
    shares: npt.NDArray[np.float64]
    """[len(Nearness)]: of the weight, by how near it comes from."""


def count_votes(places: Places, coefficients: Coefficients) -> Votes:
    """Weigh the places and add up what they say.

    Args:
        places: at least one.
        coefficients: for the weights.
    """
    weights = coefficients.vote_table[places.nearness, places.lengths]
    total = float(weights.sum())
    by_id: defaultdict[int, float] = defaultdict(float)
    for token_id, weight in zip(places.next_ids.tolist(), weights.tolist(), strict=True):
        by_id[token_id] += weight
    probs = np.array(list(by_id.values())) / total
    return Votes(
        ids=np.array(list(by_id), np.int64),
        probs=probs,
        top=int(probs.argmax()),
        evidence=math.log1p(total),
        max_length=places.longest,
        shares=np.bincount(places.nearness, weights, minlength=len(Nearness)) / total,
    )


def features(votes: Votes, peak: float, seconded: float) -> tuple[float, ...]:
    """Return what the weight of the memory depends on, in the order of `FEATURES`.

    Args:
        votes: what the memory says.
        peak: log-probability of the network's own choice: how sure it is. It stands for the
            network's entropy, which takes ten times as long to compute.
        seconded: log-probability that the network gives to the memory's choice.
    """
    log_length = math.log(votes.max_length)
    agreement = float(votes.probs[votes.top])
    shares = votes.shares.tolist()
    return (
        1.0,
        log_length,
        votes.max_length / 32,
        votes.evidence,
        agreement,
        float(len(votes.ids) == 1),
        agreement * log_length,
        shares[Nearness.DOCUMENT],
        shares[Nearness.OPEN],
        shares[Nearness.FOLDER],
        shares[Nearness.IMPORTED],
        max(peak, LEAST_LOGPROB),
        max(seconded, LEAST_LOGPROB),
    )


def memory_weight(votes: Votes, log_probs: LogProbs, coefficients: Coefficients) -> float:
    """Return w, in [0, `MOST_WEIGHT`]."""
    seconded = float(log_probs[votes.ids[votes.top]])
    values = features(votes, float(log_probs.max()), seconded)
    score = sum(c * v for c, v in zip(coefficients.weight, values, strict=True))
    return min(MOST_WEIGHT, 1 / (1 + math.exp(-score))) if score > -700 else 0.0


def mix(log_probs: LogProbs, votes: Votes, weight: float) -> LogProbs:
    """Return the mixture.

    Args:
        log_probs: [V], of the network.
        votes: of the memory.
        weight: w in [0, 1); 0 returns the argument itself.

    Returns:
        [V], a new array, normalized if the argument was.
    """
    if weight == 0:
        return log_probs
    mixed = log_probs + np.float32(math.log1p(-weight))
    said = math.log(weight) + np.log(votes.probs)
    mixed[votes.ids] = np.logaddexp(mixed[votes.ids], said)
    return mixed


class Mixer:
    """Mixes with one set of coefficients: the plain way; `_speedups` does the same, compiled."""

    def __init__(self, coefficients: Coefficients) -> None:
        self._coefficients = coefficients

    def mix(self, places: Places, log_probs: LogProbs) -> tuple[LogProbs, float]:
        """Return the mixture and the weight of the memory in it.

        Args:
            places: at least one.
            log_probs: [V], of the network.

        Returns:
            [V], and w.
        """
        votes = count_votes(places, self._coefficients)
        weight = memory_weight(votes, log_probs, self._coefficients)
        return mix(log_probs, votes, weight), weight

    def likeliest(self, places: Places) -> int:
        """Return the token that most votes are for.

        Args:
            places: at least one.
        """
        votes = count_votes(places, self._coefficients)
        return int(votes.ids[votes.top])
