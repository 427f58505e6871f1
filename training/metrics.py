"""How good completed lines are: pure functions on pairs of texts, and intervals by bootstrap.

Knows nothing of models. Names and definitions are those of CodeXGLUE and of code completion papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz
from sacrebleu.metrics import BLEU, CHRF

N_RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def exact_match(predicted: str, truth: str) -> float:
    """Return 1 if the texts are equal but for trailing whitespace."""
    return float(predicted.rstrip() == truth.rstrip())


def normalized_match(predicted: str, truth: str) -> float:
    """Return 1 if the texts are equal word by word, as CodeXGLUE counts it."""
    return float(predicted.split() == truth.split())


def edit_similarity(predicted: str, truth: str) -> float:
    """Return the normalized indel similarity, 0 to 100; two empty texts are equal."""
    return fuzz.ratio(predicted, truth)


def common_prefix_share(predicted: str, truth: str) -> float:
    """Return how much of the truth the completion begins with, 0 to 1."""
    if not truth:
        return float(not predicted)
    n = next(
        (i for i, (a, b) in enumerate(zip(predicted, truth, strict=False)) if a != b),
        min(len(predicted), len(truth)),
    )
    return n / len(truth)


def corpus_bleu(predicted: Sequence[str], truth: Sequence[str]) -> tuple[float, str]:
    """Return BLEU over all lines at once, and sacrebleu's signature.

    Lines are too short for a BLEU of their own. Differences under 5 points cannot rank models on
    one-liners (Evtikhiev et al. 2023, arXiv:2208.03133).
    """
    metric = BLEU(tokenize="13a", smooth_method="exp", effective_order=False)
    return metric.corpus_score(list(predicted), [list(truth)]).score, str(metric.get_signature())


def corpus_chrf(predicted: Sequence[str], truth: Sequence[str]) -> tuple[float, str]:
    """Return chrF2 over all lines at once, and sacrebleu's signature."""
    metric = CHRF()
    return metric.corpus_score(list(predicted), [list(truth)]).score, str(metric.get_signature())


def bootstrap(
    groups: Sequence[np.ndarray], figure: Callable[[np.ndarray], float], seed: int = 0
) -> Interval:
    """Return a figure over all rows, with an interval from resampling whole groups.

    Args:
        groups: one array of rows, [n, columns], per file; rows of one file depend on each other.
        figure: from stacked rows to a number.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    value = figure(np.concatenate(groups))
    draws = []
    for _ in range(N_RESAMPLES):
        chosen = rng.integers(0, len(groups), len(groups))
        draws.append(figure(np.concatenate([groups[i] for i in chosen])))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def mean_of_column(column: int) -> Callable[[np.ndarray], float]:
    """Return the figure that is the mean of a column."""
    return lambda rows: float(rows[:, column].mean())


def ratio_of_columns(above: int, below: int, scale: float = 1.0) -> Callable[[np.ndarray], float]:
    """Return the figure that is the sum of a column over that of another."""
    return lambda rows: float(scale * rows[:, above].sum() / max(1e-9, rows[:, below].sum()))
