"""Rows of the vocabulary: normalized without overflow, and no more of them than is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from server.backends.contract import check_prediction
from server.backends.predictions import (
    LogitsPrediction,
    NormalizedPrediction,
    log_softmax,
    log_sum_exp,
)
from server.errors import BackendFailedError


def row(*logits: float) -> np.ndarray:
    return np.array(logits, np.float32)


@pytest.mark.parametrize("logits", [row(1e4, -1e4, 0), row(-1e4, -1e4), row(0, -np.inf)])
def test_log_sum_exp_does_not_overflow(logits: np.ndarray) -> None:
    expected = float(np.logaddexp.reduce(logits.astype(np.float64)))
    assert log_sum_exp(logits) == pytest.approx(expected)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1, abs=1e-3)


def test_logits_tell_the_likeliest_token_and_all_probabilities() -> None:
    logits = row(0, math.log(3), 0)
    prediction = LogitsPrediction(logits)
    assert prediction.best_id == 1
    assert math.exp(prediction.best_logprob) == pytest.approx(3 / 5)
    rows = prediction.log_probs()
    assert np.exp(rows).tolist() == pytest.approx([1 / 5, 3 / 5, 1 / 5])
    rows[:] = 0  # It is the caller's.
    assert logits.tolist() == pytest.approx([0, math.log(3), 0])


def test_a_row_is_fetched_only_when_it_is_asked_for() -> None:
    fetched = []

    def fetch() -> np.ndarray:
        fetched.append(1)
        return row(-1, -2)

    prediction = NormalizedPrediction(0, -1.0, fetch)
    assert (prediction.best_id, prediction.best_logprob) == (0, -1.0)
    assert not fetched
    assert prediction.log_probs().tolist() == [-1, -2]


@pytest.mark.parametrize(
    ("token_id", "logprob"), [(0, math.nan), (0, -math.inf), (4, -1.0), (-1, -1.0)]
)
def test_a_prediction_of_no_token_is_refused(token_id: int, logprob: float) -> None:
    prediction = NormalizedPrediction(token_id, logprob, lambda: row(0, 0, 0, 0))
    with pytest.raises(BackendFailedError, match="not finite"):
        check_prediction(prediction, 4)
