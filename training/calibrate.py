"""Fit how much the memory of the workspace counts, on development packages.

The mixture's own likelihood is what is maximized: the weights of votes and the logistic model of
the memory's weight are fitted together, by L-BFGS. How often the token after a longest match is
right is counted besides, for the length of drafts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from server.decoding.memory.coefficients import FEATURES, LENGTH_KNOTS, Coefficients
from server.decoding.memory.mixture import LEAST_LOGPROB, MOST_WEIGHT
from server.decoding.memory.recall import Nearness
from server.decoding.memory.stream import MAX_MATCH_TOKENS
from training.workspace import Recollection

N_STEPS = 200  # Of L-BFGS; the loss stands still by then. Measured on the development packages.
PENALTY = 1e-4  # On the squares of all coefficients, per token. Guessed.


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """Tokens at which the memory recalled something, padded to as many places as any has.

    N tokens, M places; places that are not there have the weight 0.
    """

    lengths: Tensor
    """[N, M]."""
    nearness: Tensor
    """[N, M]."""
    groups: Tensor
    """[N, M]: places with the same next token have the same number below M."""
    is_place: Tensor
    """[N, M]."""
    is_truth: Tensor
    """[N, M]: what stands there is what came."""
    next_logprobs: Tensor
    """[N, M]: the network's, of what stands there."""
    peak: Tensor
    """[N]: the network's, of its own choice."""
    truth: Tensor
    """[N]: the network's, of what came."""
    file: Tensor
    """[N]: index of the file."""


def observe(recollections: Iterable[Recollection]) -> Observations:
    """Collect the tokens at which the memory recalled something."""
    seen = [_row(each) for each in recollections if each.matches.n_matches]
    n_most = max(len(row["lengths"]) for row in seen)

    def padded(name: str, dtype: torch.dtype) -> Tensor:
        rows = np.zeros((len(seen), n_most), np.float32)
        for i, row in enumerate(seen):
            rows[i, : len(row[name])] = row[name]
        return torch.from_numpy(rows).to(dtype)

    def column(name: str) -> Tensor:
        return torch.tensor([float(row[name]) for row in seen])

    return Observations(
        lengths=padded("lengths", torch.long),
        nearness=padded("nearness", torch.long),
        groups=padded("groups", torch.long),
        is_place=padded("is_place", torch.bool),
        is_truth=padded("is_truth", torch.bool),
        next_logprobs=padded("next_logprobs", torch.float),
        peak=column("peak"),
        truth=column("truth"),
        file=column("file").long(),
    )


def fit(seen: Observations) -> Coefficients:
    """Return the coefficients under which what came is likeliest."""
    length = torch.linspace(0, 4, len(LENGTH_KNOTS), requires_grad=True)
    nearness = torch.zeros(len(Nearness), requires_grad=True)
    weight = torch.zeros(len(FEATURES), requires_grad=True)
    parameters = [length, nearness, weight]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=N_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mixture_nats(seen, length, nearness, weight).mean()
        loss = loss + PENALTY * sum(p.square().sum() for p in parameters)
        loss.backward()
        return loss

    optimizer.step(closure)
    return Coefficients(
        length=_rounded(length),
        nearness=_rounded(nearness),
        weight=_rounded(weight),
        acceptance=_acceptance(seen),
    )


def mixture_nats(seen: Observations, length: Tensor, nearness: Tensor, weight: Tensor) -> Tensor:
    """Return the negative log-likelihood of what came under the mixture: [N].

    Args:
        seen: tokens.
        length: [len(LENGTH_KNOTS)].
        nearness: [len(Nearness)].
        weight: [len(FEATURES)].
    """
    votes = (_interpolation() @ length)[seen.lengths] + nearness[seen.nearness]
    votes = votes.exp() * seen.is_place
    total = votes.sum(1)
    by_token = torch.zeros_like(votes).scatter_add(1, seen.groups, votes)
    agreement = by_token.max(1).values / total
    is_top = (by_token / total[:, None]).gather(1, seen.groups) >= agreement[:, None]
    seconded = seen.next_logprobs.masked_fill(~(is_top & seen.is_place), -math.inf).max(1).values
    shares = [(votes * (seen.nearness == near)).sum(1) / total for near in list(Nearness)[:3]]
    longest = seen.lengths.max(1).values.float()
    is_unanimous = (seen.groups * seen.is_place).max(1).values == 0
    values = torch.stack(
        [
            torch.ones_like(total),
            longest.log(),
            longest / MAX_MATCH_TOKENS,
            total.log1p(),
            agreement,
            is_unanimous.float(),
            agreement * longest.log(),
            *shares,
            seen.peak.clamp(min=LEAST_LOGPROB),
            seconded.clamp(min=LEAST_LOGPROB),
        ],
        1,
    )
    w = torch.sigmoid(values @ weight).clamp(max=MOST_WEIGHT)
    memory = (votes * seen.is_truth).sum(1) / total
    return -((1 - w) * seen.truth.exp() + w * memory).clamp(min=1e-30).log()


def fitted_nats(seen: Observations, coefficients: Coefficients) -> Tensor:
    """Return the negative log-likelihood of what came under given coefficients: [N]."""
    with torch.inference_mode():
        return mixture_nats(
            seen,
            torch.tensor(coefficients.length),
            torch.tensor(coefficients.nearness),
            torch.tensor(coefficients.weight),
        )


def _row(each: Recollection) -> dict[str, np.ndarray | float]:
    matches = each.matches
    _, groups = np.unique(matches.next_ids, return_inverse=True)
    return {
        "lengths": matches.lengths,
        "nearness": matches.nearness,
        "groups": groups,
        "is_place": np.ones(matches.n_matches),
        "is_truth": matches.next_ids == each.truth,
        "next_logprobs": np.maximum(each.log_probs[matches.next_ids], -1e4),
        "peak": float(each.log_probs.max()),
        "truth": float(each.log_probs[each.truth]),
        "file": each.file,
    }


def _interpolation() -> Tensor:
    """Return what turns values at the knots into values at every length: [lengths, knots]."""
    lengths = np.arange(MAX_MATCH_TOKENS + 1)
    columns = [np.interp(lengths, LENGTH_KNOTS, row) for row in np.eye(len(LENGTH_KNOTS))]
    return torch.tensor(np.stack(columns, 1), dtype=torch.float)


def _acceptance(seen: Observations) -> tuple[float, ...]:
    """Return the log-odds that one of the longest matches goes on as the text did, by length."""
    longest = seen.lengths.max(1).values
    is_longest = (seen.lengths == longest[:, None]) & seen.is_place
    share = ((is_longest & seen.is_truth).sum(1) / is_longest.sum(1)).numpy()
    nearest = np.abs(np.log(longest.numpy())[:, None] - np.log(LENGTH_KNOTS)).argmin(1)
    odds = []
    for knot in range(len(LENGTH_KNOTS)):
        own = share[nearest == knot]
        # One success and one failure are added, so that no length is certain.
        p = (own.sum() + 1) / (len(own) + 2)
        odds.append(round(float(np.log(p / (1 - p))), 3))
    return tuple(odds)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values.detach())
