"""What a network must offer: token ids in, logits out, a KV cache that can forget its end.

This module does not know onnxruntime, torch, text or the protocol. Backend plugins subclass
`Backend`.

Shape letters, here and in every module that handles arrays:
L layers, B batch, T new tokens, P past tokens, S = P + T, H heads, D head width, V vocabulary, M
cache capacity.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.backends.predictions import Logits as Logits
from server.backends.predictions import LogitsPrediction, Prediction
from server.bundle import Bundle
from server.errors import BackendFailedError
from server.manifest import ModelSpec

TokenIds = Sequence[int]
NOT_FINITE = (
    "the network answered with logits that are not finite; its weights or its provider are broken: "
    "choose another device or export the model again"
)


class KVCache(Protocol):
    """The keys and values of the tokens that a network has already seen."""

    @property
    def n_tokens(self) -> int:
        """P: how many tokens the cache holds."""

    @property
    def n_bytes(self) -> int:
        """Memory that the cache holds, whether filled or not."""

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`; the front can't be forgotten.

        Raises:
            ValueError: `n_tokens` is negative or more than the cache holds.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """How a backend shall run; zero or `auto` leaves the choice to the backend."""

    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    n_threads: int = 0
    """Threads inside one operator; 0 lets the backend choose."""
    spinning: bool = False
    """Whether idle worker threads busy-wait without end: quicker on an idle machine, much slower on
    a loaded one."""
    captures: bool = False
    """Whether the pass of one token is captured as a CUDA graph and replayed, where the bundle was
    exported for CUDA. Off, as nobody has measured yet whether it pays."""
    spin_us: int = 20
    """How long they busy-wait without `spinning`, in microseconds; 0: not at all. Measured, see
    docs/performance.md: it bridges the gap between two operators and costs a loaded machine little.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What really runs, for the log, `doctor` and the status."""

    name: str
    device: str
    provider: str
    dtype: str
    details: Mapping[str, str] = field(default_factory=dict)


class Backend(ABC):
    """Runs one network. One forward pass at a time, always from the same thread.

    A plugin's class is found through the entry-point group `foretype.backends` and made by `load`.
    """

    spec: ModelSpec
    info: BackendInfo

    @classmethod
    @abstractmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> Backend:
        """Load the network of a bundle.

        Raises:
            BackendUnavailableError: a package, provider or file is missing; the message says what
            to install.
            BackendFailedError: the network does not load.
        """

    @abstractmethod
    def new_cache(self) -> KVCache:
        """Return an empty cache that belongs to this backend."""

    @abstractmethod
    def forward(self, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        """Run the network over new tokens and append them to the cache.

        Args:
            token_ids: [T], at least one, each in [0, V); P + T must not exceed `spec.n_ctx`.
            cache: made by `new_cache` of this backend.
            n_logits: in [0, T]; for how many of the last positions logits are wanted.

        Returns:
            [n_logits, V], float32, unnormalized; valid until the next call.

        Raises:
            ValueError: no tokens, more tokens than fit, a token id or `n_logits` out of range.
            BackendFailedError: the network raised, or its logits are not finite; the cache must
            not be used again.
        """

    def predict(self, token_ids: TokenIds, cache: Any, n_rows: int = 1) -> Sequence[Prediction]:
        """Run `forward` and return what it says of the next token.

        Our own override it where the network normalizes, or finds the likeliest token itself; a
        plugin is asked for `forward` alone.

        Args:
            token_ids: as for `forward`.
            cache: as for `forward`.
            n_rows: in [0, T]; for how many of the last positions predictions are wanted.

        Returns:
            [n_rows]; valid until the next call.

        Raises:
            ValueError: as `forward`.
            BackendFailedError: as `forward`.
        """
        return [LogitsPrediction(row) for row in self.forward(token_ids, cache, n_rows)]

    def close(self) -> None:  # noqa: B027 - most backends hold nothing that must be given back
        """Give back threads and device memory; the backend is not used afterwards."""


def check_forward_arguments(
    spec: ModelSpec, token_ids: TokenIds, n_past: int, n_logits: int
) -> None:
    """Raise the `ValueError`s that `Backend.forward` promises; for use by backends."""
    n_new = len(token_ids)
    if n_new == 0:
        raise ValueError("forward needs at least one token")
    if n_past + n_new > spec.n_ctx:
        raise ValueError(f"{n_past} past and {n_new} new tokens exceed the context of {spec.n_ctx}")
    if not 0 <= n_logits <= n_new:
        raise ValueError(f"n_logits is {n_logits}, must be in [0, {n_new}]")
    if min(token_ids) < 0 or max(token_ids) >= spec.n_vocab:
        raise ValueError(f"a token id lies outside the vocabulary of {spec.n_vocab}")


def check_truncation(n_tokens: int, n_held: int) -> None:
    """Raise the `ValueError` that `KVCache.truncate` promises; for use by backends."""
    if not 0 <= n_tokens <= n_held:
        raise ValueError(f"can't truncate to {n_tokens} tokens, the cache holds {n_held}")


def check_logits(logits: Logits, n_logits: int, n_vocab: int) -> None:
    """Refuse logits from which no token can be chosen; for use by backends.

    One pass over the rows: a NaN or an infinity anywhere, or nothing but -inf, shows in the
    maximum.

    Args:
        logits: [n_logits, V], as the network answered.
        n_logits: rows that were asked for.
        n_vocab: V.

    Raises:
        BackendFailedError: they have another shape, or a row holds a NaN or +inf, or all of them
        nothing but -inf.
    """
    if logits.shape != (n_logits, n_vocab):
        raise BackendFailedError(
            f"the network answered with logits of shape {list(logits.shape)}, "
            f"expected {[n_logits, n_vocab]}; export the model again"
        )
    if logits.size and not math.isfinite(logits.max()):
        raise BackendFailedError(NOT_FINITE)


def check_prediction(prediction: Prediction, n_vocab: int) -> None:
    """Refuse a prediction from which no token can be chosen; for use by backends.

    A NaN or an infinity among the logits makes all log-probabilities NaN.

    Args:
        prediction: as the network made it.
        n_vocab: V.

    Raises:
        BackendFailedError: its likeliest token is none, or has no finite probability.
    """
    if not (math.isfinite(prediction.best_logprob) and 0 <= prediction.best_id < n_vocab):
        raise BackendFailedError(NOT_FINITE)
