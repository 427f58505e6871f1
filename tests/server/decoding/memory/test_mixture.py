"""The mixture, against its formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from server.backends.predictions import log_softmax
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.index import Snapshot
from server.decoding.memory.mixture import MOST_WEIGHT, count_votes, memory_weight, mix
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.search import Places
from server.decoding.memory.stream import TokenWidth

WIDTH = TokenWidth(8)


def found(before: list[int], context: list[int]) -> Places:
    return Recall(Snapshot, DocumentText(before, (), WIDTH), "", WIDTH).matches(context).found


def network(*logits: float) -> np.ndarray:
    return log_softmax(np.array(logits, np.float32))


def test_weight_zero_is_the_network_bit_for_bit():
    log_probs = network(0, 1, 2, 3, 0, 0, 0, 0)
    votes = count_votes(found([1, 2, 3, 1, 2], [1, 2]), Coefficients())
    assert mix(log_probs, votes, 0.0) is log_probs


@pytest.mark.parametrize("weight", [0.1, 0.5, MOST_WEIGHT])
def test_the_mixture_is_the_weighted_sum(weight: float):
    log_probs = network(0, 1, 2, 3, 0, 0, 0, -np.inf)
    before = log_probs.copy()
    votes = count_votes(found([1, 2, 3, 1, 2, 4, 1, 2, 3, 1, 2], [1, 2]), Coefficients())
    expected = (1 - weight) * np.exp(log_probs)
    expected[votes.ids] += weight * votes.probs
    mixed = mix(log_probs, votes, weight)
    assert np.exp(mixed) == pytest.approx(expected, abs=1e-6)
    assert np.exp(mixed).sum() == pytest.approx(1, abs=1e-6)
    assert (log_probs == before).all()


def test_votes_add_up_by_token_and_grow_with_the_match():
    matches = found([7, 1, 2, 3, 6, 1, 2, 4, 5, 1, 2, 4, 7, 1, 2], [7, 1, 2])
    coefficients = replace(Coefficients(), nearness=(0.0,) * 5)
    votes = count_votes(matches, coefficients)
    probs = dict(zip(votes.ids.tolist(), votes.probs.tolist(), strict=True))
    two, three = coefficients.vote_table[0, 2], coefficients.vote_table[0, 3]
    assert probs[3] == pytest.approx(three / (three + 2 * two))
    assert probs[4] == pytest.approx(2 * two / (three + 2 * two))
    assert votes.max_length == 3
    assert votes.shares.tolist() == [1, 0, 0, 0, 0]


def test_a_longer_match_counts_for_more():
    log_probs = network(0, 0, 0, 0, 0, 0, 0, 0)
    text = [6, 5, 4, 3, 2, 1, 7]
    short = count_votes(found([*text, 0], [2, 1]), Coefficients())
    long = count_votes(found([*text, 0], text[:6]), Coefficients())
    assert memory_weight(short, log_probs, Coefficients()) < memory_weight(
        long, log_probs, Coefficients()
    )


def test_the_weight_stays_within_its_bounds():
    votes = count_votes(found([1, 2, 3, 1, 2], [1, 2]), Coefficients())
    log_probs = network(0, 0, 0, 0, 0, 0, 0, 0)
    sure = replace(Coefficients(), weight=(999.0, *[0.0] * 12))
    never = replace(Coefficients(), weight=(-999.0, *[0.0] * 12))
    assert memory_weight(votes, log_probs, sure) == MOST_WEIGHT
    assert memory_weight(votes, log_probs, never) == 0
