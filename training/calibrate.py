"""Fit how much the memory of the workspace counts, on development packages.

The mixture's own likelihood is what is maximized: the weights of votes and the logistic model of
the memory's weight are fitted together, by L-BFGS-B. How often the token after a longest match is
right is counted besides, for the length of drafts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.optimize import minimize
from tokenizers import Tokenizer
from torch import Tensor, nn

from server.decoding.memory.coefficients import FEATURES, LENGTH_KNOTS, Coefficients
from server.decoding.memory.mixture import LEAST_LOGPROB, MOST_WEIGHT
from server.decoding.memory.search import Nearness
from server.decoding.memory.stream import MAX_MATCH_TOKENS
from training.errors import CorpusError
from training.workspace import Recollection, WorkspaceProtocol, recollect, workspace_files

N_STEPS = 120  # Of L-BFGS-B, at the most. Guessed.
LARGEST = 20.0  # Of any coefficient: text that repeats itself without end would want infinity.
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

    def where(self, is_kept: Tensor) -> Observations:
        """Return some of the tokens."""
        return Observations(**{f.name: getattr(self, f.name)[is_kept] for f in fields(self)})


def observe(recollections: Iterable[Recollection]) -> Observations:
    """Collect the tokens at which the memory recalled something."""
    seen = [_row(each) for each in recollections if each.places.n_matches]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was fitted and what it is worth, in bits per byte of what came."""

    coefficients: Coefficients
    n_tokens: int
    network: float
    """The network alone."""
    mixture: float
    """With the coefficients, on the packages that they were fitted to."""
    held_out: float
    """Each package under coefficients that were fitted to the others."""


def calibrate(
    model: nn.Module,
    tokenizer: Tokenizer,
    rows: Sequence[dict[str, str]],
    protocol: WorkspaceProtocol,
) -> Calibration:
    """Fit the memory to a network on packages, and say what it is worth on each left out.

    Args:
        model: in evaluation mode; logits [B, T, V] for ids [B, T].
        tokenizer: the model's own.
        rows: of the development split: at least two packages.
        protocol: which files and how much of each.

    Raises:
        CorpusError: there are too few files.
    """
    files = workspace_files(rows, protocol)
    packages = sorted({file.package for file in files})
    if len(packages) < 2:
        raise CorpusError(f"two packages are needed, and there are files of {len(packages)}")
    totals = {"nats": 0.0, "bytes": 0, "tokens": 0, "forgotten": 0.0}

    def counted() -> Iterator[Recollection]:
        recollections = recollect(model, tokenizer, rows, files, protocol)
        # The result goes to standard output, and nothing else.
        for each in track(recollections, "tokens", console=Console(stderr=True)):
            nats = -float(each.log_probs[each.truth])
            totals["nats"] += nats
            totals["bytes"] += each.n_bytes
            totals["tokens"] += 1
            totals["forgotten"] += 0.0 if each.places.n_matches else nats
            yield each

    seen = observe(counted())
    number = torch.tensor([packages.index(file.package) for file in files])[seen.file]
    held_out = [
        fitted_nats(seen.where(number == i), fit(seen.where(number != i))).sum().item()
        for i in range(len(packages))
    ]
    coefficients = fit(seen)

    def bits_per_byte(nats: float) -> float:
        return nats / math.log(2) / totals["bytes"]

    return Calibration(
        coefficients=coefficients,
        n_tokens=int(totals["tokens"]),
        network=bits_per_byte(totals["nats"]),
        mixture=bits_per_byte(totals["forgotten"] + fitted_nats(seen, coefficients).sum().item()),
        held_out=bits_per_byte(totals["forgotten"] + sum(held_out)),
    )


def fit(seen: Observations) -> Coefficients:
    """Return the coefficients under which what came is likeliest."""
    sizes = [len(LENGTH_KNOTS), len(Nearness), len(FEATURES)]
    start = np.concatenate([np.linspace(0, 4, sizes[0]), np.zeros(sizes[1] + sizes[2])])

    def loss_and_slope(values: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.tensor(values, dtype=torch.float, requires_grad=True)
        loss = mixture_nats(seen, *parameters.split(sizes)).mean()
        loss = loss + PENALTY * parameters.square().sum()
        loss.backward()
        return loss.item(), parameters.grad.double().numpy()

    found = minimize(
        loss_and_slope,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-LARGEST, LARGEST)] * len(start),
        options={"maxiter": N_STEPS},
    )
    length, nearness, weight = np.split(found.x, np.cumsum(sizes)[:-1])
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
    shares = [
        (votes * (seen.nearness == near)).sum(1) / total for near in list(Nearness)[: Nearness.REST]
    ]
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
    places = each.places
    _, groups = np.unique(places.next_ids, return_inverse=True)
    return {
        "lengths": places.lengths,
        "nearness": places.nearness,
        "groups": groups,
        "is_place": np.ones(places.n_matches),
        "is_truth": places.next_ids == each.truth,
        "next_logprobs": np.maximum(each.log_probs[places.next_ids], -1e4),
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


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
