"""A few KV caches with the token ids that they hold, so that no token is prefilled twice.

Does not know what the tokens mean nor what runs the network.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from server.backends.contract import Backend, KVCache
from server.backends.predictions import Prediction

MAX_CACHES = 4  # Two documents in two prompt orders, guessed.
MAX_CACHE_BYTES = 256_000_000  # Three of GPT-2 124M in fp32. Guessed.
KEPT_SHARE = 0.5  # Of a prompt or a cache: less in common, and the cache is spared. Guessed.


class CachedSequence:
    """Token ids that a network has seen, in step with the KV cache that remembers them."""

    def __init__(self, backend: Backend, owner: str = "") -> None:
        self.owner = owner
        """Who used it last; see `KVCaches.forget`."""
        self.is_lost = False
        """The backend failed on it: it must not be used again."""
        self._backend = backend
        self._kv_cache: KVCache = backend.new_cache()
        self._token_ids: list[int] = []

    @property
    def n_ctx(self) -> int:
        """How many tokens the network can see."""
        return self._backend.spec.n_ctx

    @property
    def n_tokens(self) -> int:
        """P: how many tokens the cache holds."""
        return len(self._token_ids)

    @property
    def n_bytes(self) -> int:
        """Memory that the cache holds."""
        return self._kv_cache.n_bytes

    def count_common(self, token_ids: Sequence[int]) -> int:
        """Return how many tokens at the front are equal."""
        return sum(1 for _ in takewhile(bool, map(operator.eq, self._token_ids, token_ids)))

    def forward(self, token_ids: Sequence[int], n_rows: int) -> Sequence[Prediction]:
        """Run new tokens.

        Returns:
            [n_rows], after each of the last of them; valid until the backend's next pass.

        Raises:
            BackendFailedError: the network raised; the sequence is lost.
        """
        self.is_lost = True  # Until the pass has come back, the cache may hold half of it.
        predictions = self._backend.predict(token_ids, self._kv_cache, n_rows)
        self._token_ids.extend(token_ids)
        self.is_lost = False
        return predictions

    def truncate(self, n_tokens: int) -> None:
        """Forget all after the first `n_tokens`."""
        if n_tokens < len(self._token_ids):
            self._kv_cache.truncate(n_tokens)
            del self._token_ids[n_tokens:]


class KVCaches:
    """The sequences of one backend, bounded in number and bytes; the least recently used goes."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_caches: int = MAX_CACHES,
        max_bytes: int = MAX_CACHE_BYTES,
    ) -> None:
        self._backend = backend
        self._max_caches = max_caches
        self._max_bytes = max_bytes
        self._sequences: list[CachedSequence] = []  # Least recently used first; never one in use.

    @property
    def n_caches(self) -> int:
        """How many caches are kept and not in use."""
        return len(self._sequences)

    @property
    def n_bytes(self) -> int:
        """Memory that they hold."""
        return sum(sequence.n_bytes for sequence in self._sequences)

    @contextmanager
    def lease(self, token_ids: Sequence[int], owner: str = "") -> Iterator[CachedSequence]:
        """Lend the sequence that has most in common with `token_ids`, cut to what is common.

        Nobody else gets it until the block ends; then it is kept with all that was added.
        """
        with self._lent(self._take(token_ids) or CachedSequence(self._backend), owner) as sequence:
            yield sequence

    @contextmanager
    def lease_beside(
        self, token_ids: Sequence[int], present_ids: Sequence[int], owner: str = ""
    ) -> Iterator[CachedSequence | None]:
        """Lend a sequence as `lease` does, but never the one that holds most of `present_ids`.

        That one also stays the last used: what is run ahead never costs what is used now.

        Yields:
            None where the bounds leave no room for a second one.
        """
        present = max(self._sequences, key=lambda s: s.count_common(present_ids), default=None)
        others = [sequence for sequence in self._sequences if sequence is not present]
        sequence = self._take(token_ids, others)
        if sequence is None:
            yield None
            return
        with self._lent(sequence, owner, present):
            yield sequence

    @contextmanager
    def _lent(
        self, sequence: CachedSequence, owner: str, last: CachedSequence | None = None
    ) -> Iterator[CachedSequence]:
        """Lend a sequence, and keep it afterwards as the last used, but for one that is `last`."""
        sequence.owner = owner
        try:
            yield sequence
        finally:
            if not sequence.is_lost:
                self._sequences.append(sequence)
                if last is not None:
                    self._sequences.remove(last)
                    self._sequences.append(last)
                self._evict()

    def forget(self, owner: str) -> None:
        """Give back the caches that this owner used last."""
        self._sequences = [s for s in self._sequences if s.owner != owner]

    def _take(
        self, token_ids: Sequence[int], among: Sequence[CachedSequence] | None = None
    ) -> CachedSequence | None:
        """Return a sequence that holds nothing but a front of `token_ids`, and drop it from the
        list.

        Args:
            token_ids: what it will hold.
            among: those that may be taken, least recently used first; None: all.

        Returns:
            None: there is none to be taken, and no room for another.
        """
        among = self._sequences if among is None else among
        best, n_common = None, -1
        for sequence in reversed(among):  # The last used wins among equals.
            n = sequence.count_common(token_ids)
            # With less in common little would be won, and what it holds may be wanted again.
            if n >= KEPT_SHARE * min(len(token_ids), sequence.n_tokens) and n > n_common:
                best, n_common = sequence, n
        if best is None:
            if self._has_room():
                return CachedSequence(self._backend)
            if not among:
                return None
            best = among[0]
            n_common = best.count_common(token_ids)
        self._sequences.remove(best)
        best.truncate(n_common)
        return best

    def _has_room(self) -> bool:
        if not self._sequences:
            return True
        one_more = self.n_bytes + self._sequences[-1].n_bytes
        return len(self._sequences) < self._max_caches and one_more <= self._max_bytes

    def _evict(self) -> None:
        while len(self._sequences) > 1 and (
            len(self._sequences) > self._max_caches or self.n_bytes > self._max_bytes
        ):
            del self._sequences[0]
