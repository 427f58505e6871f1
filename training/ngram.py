"""An n-gram language model over token ids, the baseline that counts instead of learning.

Interpolated absolute discounting, all in sorted arrays, so that millions of tokens fit and scoring
is a binary search. Knows token ids only.

Source: Ney, Essen and Kneser 1994, "On structuring probabilistic dependences in stochastic language
modelling", section 4 (absolute discounting, interpolated form).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DISCOUNT = 0.75
# Odd multiplier of a 64-bit polynomial hash (Knuth's, 2^64 / golden ratio). Contexts are identified
# by their hash: at 10^7 contexts, the chance of any collision is about 3 in a million.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class _Order:
    """Counts of one order, sorted by hash."""

    contexts: np.ndarray  # [C] hash of a context
    totals: np.ndarray  # [C] how often it was followed by anything
    kinds: np.ndarray  # [C] by how many different tokens
    best: np.ndarray  # [C] the most frequent of them
    grams: np.ndarray  # [G] hash of context and token
    counts: np.ndarray  # [G]


class NgramModel:
    """Counts of contexts of 0 to `n - 1` tokens."""

    def __init__(self, ids: np.ndarray, n: int, n_vocab: int) -> None:
        """Count the n-grams of `ids`; n is the longest, context and token together."""
        self.n = n
        self._n_vocab = n_vocab
        ids = np.asarray(ids, dtype=np.uint64)
        self._orders = [_count(ids, k) for k in range(n)]

    def score(self, ids: np.ndarray) -> tuple[float, int]:
        """Return nats and number of right top-1 guesses for ids[1:], given all that precede."""
        ids = np.asarray(ids, dtype=np.uint64)
        truth = ids[1:]
        probability = np.full(len(truth), 1.0 / self._n_vocab)
        guess = np.zeros(len(truth), dtype=np.uint64)
        for k, order in enumerate(self._orders):
            contexts = _context_hashes(ids, k)[1:-1] if k else np.zeros(len(truth), np.uint64)
            reached = np.arange(len(truth)) + 1 >= k
            at, is_known = _find(order.contexts, contexts)
            is_known &= reached
            totals = np.where(is_known, order.totals[at], 1)
            gram_at, has_gram = _find(order.grams, _joined(contexts, truth))
            counts = np.where(has_gram & is_known, order.counts[gram_at], 0)
            left = DISCOUNT * np.where(is_known, order.kinds[at], 0) / totals
            higher = np.maximum(counts - DISCOUNT, 0.0) / totals + left * probability
            probability = np.where(is_known, higher, probability)
            guess = np.where(is_known, order.best[at], guess)
        return float(-np.log(probability).sum()), int((guess == truth).sum())


def _count(ids: np.ndarray, k: int) -> _Order:
    contexts = _context_hashes(ids, k)[k:-1] if k else np.zeros(len(ids), np.uint64)
    tokens = ids[k:]
    grams = _joined(contexts, tokens)
    unique, first, counts = np.unique(grams, return_index=True, return_counts=True)
    own_contexts, own_tokens = contexts[first], tokens[first]
    # By context, the most frequent token first.
    order = np.lexsort((own_tokens, -counts, own_contexts))
    keys, starts = np.unique(own_contexts[order], return_index=True)
    totals = np.add.reduceat(counts[order], starts)
    kinds = np.diff(np.append(starts, len(order)))
    return _Order(keys, totals, kinds, own_tokens[order][starts], unique, counts)


def _context_hashes(ids: np.ndarray, k: int) -> np.ndarray:
    """Return, for every position 0..len, the hash of the k ids before it (fewer at the start)."""
    hashes = np.zeros(len(ids) + 1, np.uint64)
    for back in range(k, 0, -1):
        hashes[back:] = _joined(hashes[back:], ids[: len(ids) + 1 - back])
    return hashes


def _joined(hashes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    mixed = (hashes ^ (ids + np.uint64(1))) * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(29))


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted
