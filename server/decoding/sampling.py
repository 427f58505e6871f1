"""Which token comes next: pure rules on one prediction, composed into a `Choose`.

Does not know text, networks or where predictions come from. Randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.backends.predictions import LogProbs, Prediction, log_sum_exp
from server.options import SamplingOptions

IdArray = npt.NDArray[np.int64]

NUCLEUS_START = 64  # Candidates that `apply_top_p` sorts first; guessed: it is mostly enough.


class ChosenToken(NamedTuple):
    """A token and the natural log of its probability, before temperature and truncation."""

    token_id: int
    logprob: float


Processor = Callable[[Sequence[int], LogProbs], LogProbs]
"""A seam between network and choice: the tokens generated so far and log-probabilities [V] in,
log-probabilities [V] out; -inf forbids. Returns its argument or a new array, never changes it."""

Choose = Callable[[Sequence[int], Prediction], ChosenToken]
"""The tokens generated so far and what the network expects in, the next token out."""


def make_choose(
    options: SamplingOptions,
    rng: np.random.Generator,
    *,
    processors: Sequence[Processor] = (),
    forbidden_ids: Sequence[int] = (),
) -> Choose:
    """Compose the rules of a request.

    Args:
        options: temperature 0 takes the likeliest token and draws nothing from `rng`.
        rng: one number is drawn per token, so that the same seed gives the same text.
        processors: applied in this order.
        forbidden_ids: tokens that are never chosen; they keep their share of the probability.
    """
    is_forbidden = frozenset(forbidden_ids)
    masked = np.array(forbidden_ids, np.int64)

    def choose(generated: Sequence[int], prediction: Prediction) -> ChosenToken:
        is_greedy = not processors and options.temperature == 0
        if is_greedy and prediction.best_id not in is_forbidden:
            return ChosenToken(prediction.best_id, prediction.best_logprob)
        log_probs = prediction.log_probs()
        log_probs[masked] = -np.inf
        for process in processors:
            log_probs = process(generated, log_probs)
        token_id = sample(log_probs, options, rng)
        return ChosenToken(token_id, float(log_probs[token_id]))

    return choose


def sample(log_probs: LogProbs, options: SamplingOptions, rng: np.random.Generator) -> int:
    """Choose one token.

    Args:
        log_probs: [V], at least one of them finite.
        options: temperature, then top-k, then top-p, as is usual.
        rng: not touched at temperature 0.
    """
    if options.temperature == 0:
        return int(log_probs.argmax())
    rules = apply_temperature(log_probs, options.temperature)
    rules = apply_top_p(apply_top_k(rules, options.top_k), options.top_p)
    weights = np.exp(rules - rules.max(), dtype=np.float64).cumsum()
    # Below the sum even after rounding; `side="right"` steps over masked tokens, which add nothing.
    drawn = min(rng.random() * weights[-1], np.nextafter(weights[-1], 0))
    return int(np.searchsorted(weights, drawn, side="right"))


def apply_temperature(log_probs: LogProbs, temperature: float) -> LogProbs:
    """Sharpen (below 1) or flatten (above 1) a distribution.

    Args:
        log_probs: [V], normalized or not.
        temperature: above 0.

    Returns:
        [V], a new array, unnormalized.

    Raises:
        ValueError: `temperature` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, must be above 0")
    return log_probs / np.float32(temperature)


def apply_top_k(log_probs: LogProbs, top_k: int) -> LogProbs:
    """Mask all but the `top_k` likeliest tokens; of equals, some survive.

    Args:
        log_probs: [V], normalized or not.
        top_k: 0 masks nothing.

    Returns:
        [V]; masked entries are -inf.

    Raises:
        ValueError: `top_k` is negative.
    """
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}, must be 0 or more")
    if top_k == 0 or top_k >= len(log_probs):
        return log_probs
    return _only(log_probs, np.argpartition(log_probs, -top_k)[-top_k:])


def apply_top_p(log_probs: LogProbs, top_p: float) -> LogProbs:
    """Mask all but the smallest set of tokens whose probability reaches `top_p`.

    Args:
        log_probs: [V], normalized or not.
        top_p: in (0, 1]; 1 masks nothing.

    Returns:
        [V]; masked entries are -inf. At least one entry survives.

    Raises:
        ValueError: `top_p` is out of range.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}, must be in (0, 1]")
    if top_p == 1:
        return log_probs
    total = log_sum_exp(log_probs)
    n_sorted = min(NUCLEUS_START, len(log_probs))
    while True:  # The nucleus is mostly small: sort a few candidates, and more if need be.
        likeliest = np.argpartition(log_probs, -n_sorted)[-n_sorted:]
        likeliest = likeliest[np.argsort(log_probs[likeliest], kind="stable")[::-1]]
        mass = np.exp(log_probs[likeliest] - total, dtype=np.float64).cumsum()
        if mass[-1] >= top_p or n_sorted == len(log_probs):
            break
        n_sorted = min(8 * n_sorted, len(log_probs))
    n_kept = int(np.searchsorted(mass, top_p)) + 1
    return _only(log_probs, likeliest[:n_kept])


def _only(log_probs: LogProbs, kept: npt.NDArray[np.intp]) -> LogProbs:
    masked = np.full_like(log_probs, -np.inf)
    masked[kept] = log_probs[kept]
    return masked
