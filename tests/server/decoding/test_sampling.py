"""Rules on one prediction, against definitions written out."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.predictions import LogitsPrediction, log_softmax
from server.decoding.sampling import (
    apply_temperature,
    apply_top_k,
    apply_top_p,
    make_choose,
    sample,
)
from server.options import SamplingOptions

GREEDY = SamplingOptions()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def row(*logits: float) -> np.ndarray:
    return np.array(logits, np.float32)


def expected(*logits: float) -> LogitsPrediction:
    return LogitsPrediction(row(*logits))


def survivors(log_probs: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(log_probs)).tolist())


def test_greedy_takes_the_likeliest_and_tells_its_probability() -> None:
    chosen = make_choose(GREEDY, rng())([], expected(0, math.log(3), 0))
    assert chosen.token_id == 1
    assert math.exp(chosen.logprob) == pytest.approx(3 / 5)


def test_greedy_draws_nothing() -> None:
    generator = rng()
    before = generator.bit_generator.state
    make_choose(GREEDY, generator, forbidden_ids=[1])([], expected(0, 3, 1))
    assert generator.bit_generator.state == before


def test_a_forbidden_token_is_not_chosen_and_keeps_its_share() -> None:
    chosen = make_choose(GREEDY, rng(), forbidden_ids=[1])(
        [], expected(math.log(2), math.log(3), 0)
    )
    assert chosen.token_id == 0
    assert math.exp(chosen.logprob) == pytest.approx(2 / 6)


def test_a_forbidden_token_is_never_sampled() -> None:
    choose = make_choose(SamplingOptions(temperature=2.0), rng(), forbidden_ids=[0, 2])
    assert {choose([], expected(5, 0, 5)).token_id for _ in range(50)} == {1}


def test_logits_are_not_changed() -> None:
    logits = row(0, 3, 1)
    make_choose(SamplingOptions(temperature=1), rng(), forbidden_ids=[1])(
        [], LogitsPrediction(logits)
    )
    assert logits.tolist() == [0, 3, 1]


def test_processors_see_the_tokens_so_far_and_work_in_order() -> None:
    seen = []

    def prefer_last(generated, log_probs):
        seen.append(list(generated))
        return np.where(np.arange(3) == 2, 0.0, log_probs).astype(np.float32)

    def forbid_last(generated, log_probs):
        return np.where(np.arange(3) == 2, -np.inf, log_probs).astype(np.float32)

    prediction = expected(0, 3, 1)
    assert make_choose(GREEDY, rng(), processors=[prefer_last])([7, 8], prediction).token_id == 2
    both = make_choose(GREEDY, rng(), processors=[prefer_last, forbid_last])
    assert both([7, 8], prediction).token_id == 1
    assert seen == [[7, 8], [7, 8]]


def test_the_same_seed_gives_the_same_tokens() -> None:
    options = SamplingOptions(temperature=1.5, top_k=20, top_p=0.9)
    prediction = LogitsPrediction(rng(1).normal(size=200).astype(np.float32))
    runs = []
    for seed in (3, 3, 4):
        choose = make_choose(options, rng(seed))
        runs.append([choose([], prediction).token_id for _ in range(20)])
    assert runs[0] == runs[1] != runs[2]


def test_sampling_follows_the_probabilities() -> None:
    logits = row(math.log(0.5), math.log(0.3), -np.inf, math.log(0.2))
    generator = rng()
    options = SamplingOptions(temperature=1)
    counts = Counter(sample(logits, options, generator) for _ in range(4000))
    assert counts[2] == 0
    assert [counts[i] / 4000 for i in (0, 1, 3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_the_smallest_number_does_not_draw_a_masked_token() -> None:
    class Zero:
        def random(self) -> float:
            return 0.0

    assert sample(row(-np.inf, 0, 0), SamplingOptions(temperature=1), Zero()) == 1


def test_the_told_probability_is_the_networks_own_at_any_temperature() -> None:
    choose = make_choose(SamplingOptions(temperature=0.01), rng())
    assert math.exp(choose([], expected(0, math.log(3))).logprob) == pytest.approx(3 / 4)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides(temperature: float) -> None:
    assert apply_temperature(row(1, -2), temperature).tolist() == [
        1 / temperature,
        -2 / temperature,
    ]


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
@settings(max_examples=60)
def test_top_k_keeps_the_k_likeliest(n_vocab: int, top_k: int, seed: int) -> None:
    logits = rng(seed).permutation(n_vocab).astype(np.float32)
    kept = survivors(apply_top_k(logits, top_k))
    n_kept = min(top_k or n_vocab, n_vocab)
    assert kept == set(np.argsort(logits)[-n_kept:].tolist())


@given(st.integers(1, 900), st.floats(0.01, 0.999), st.floats(0.1, 5), st.integers(0, 9))
@settings(max_examples=100)
def test_top_p_keeps_the_smallest_set_that_reaches_p(
    n_vocab: int, top_p: float, spread: float, seed: int
) -> None:
    log_probs = log_softmax((spread * rng(seed).normal(size=n_vocab)).astype(np.float32))
    kept = survivors(apply_top_p(log_probs, top_p))
    probabilities = np.exp(log_probs.astype(np.float64))
    order = np.argsort(-probabilities, kind="stable")
    mass = probabilities[order].cumsum()
    assert kept == set(order[: len(kept)].tolist())
    assert mass[len(kept) - 1] >= top_p - 1e-5
    assert len(kept) == 1 or mass[len(kept) - 2] < top_p + 1e-5


@pytest.mark.parametrize(
    ("rule", "value"),
    [(apply_temperature, 0), (apply_top_k, -1), (apply_top_p, 0), (apply_top_p, 1.5)],
)
def test_a_value_out_of_range_is_refused(rule, value) -> None:
    with pytest.raises(ValueError, match=str(value)):
        rule(row(0, 1), value)
