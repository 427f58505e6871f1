"""Runs the portable layout: the graph answers with a longer past, which is bound to the next pass.

The values stay where onnxruntime made them and never become arrays, except when a truncated cache
is used again: a graph of standard operators takes only a past of exactly P tokens. Does not know
how the session was opened.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from server.backends.contract import Logits, TokenIds, check_truncation
from server.backends.ort_rows import RowBuffer, as_logits
from server.backends.ort_session import OpenSession, cache_names


class PortableCache:
    """The last pass's `present` values, [1, H, S, D] each, of which the first P tokens count."""

    def __init__(self, binding: Any, values: list[Any]) -> None:
        self.n_tokens = 0
        self.n_held = 0
        """S: tokens in the values; more than `n_tokens` after a truncation."""
        self.binding = binding
        self.values = values

    @property
    def n_bytes(self) -> int:
        """Memory of the values; the binding shares it."""
        return sum(int(value.tensor_size_in_bytes()) for value in self.values)

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`; the values are cut by the next pass."""
        check_truncation(n_tokens, self.n_tokens)
        self.n_tokens = n_tokens


class PortableGraph:
    """A session that is fed its own `present` values."""

    normalizes: ClassVar[bool] = False
    """A graph of standard operators ends with the logits."""

    def __init__(self, opened: OpenSession) -> None:
        self._opened = opened
        self._names = opened.manifest.tensors
        self._past, self._present = cache_names(opened.manifest)
        spec = opened.manifest.spec
        self._logits = RowBuffer(opened, self._names.logits, spec.n_vocab)
        n_ctx = spec.n_ctx
        self._positions = np.arange(n_ctx, dtype=np.int64)[None]  # [1, M]
        self._mask = np.ones((1, n_ctx), np.int64)  # [1, M]

    def new_cache(self) -> PortableCache:
        """Return a cache whose values hold no token."""
        opened = self._opened
        empty = [np.zeros(opened.cache_shape(0), opened.dtype_of(name)) for name in self._past]
        values = [opened.ort.OrtValue.ortvalue_from_numpy(e, opened.device, 0) for e in empty]
        return PortableCache(opened.session.io_binding(), values)

    def run(self, token_ids: TokenIds, cache: PortableCache, n_logits: int) -> Logits:
        """Run the graph on checked arguments; the caller counts the new tokens."""
        self._cut(cache)
        n_past, n_new = cache.n_tokens, len(token_ids)
        n_rows = n_logits if self._names.logits_from else n_new
        binding, device = cache.binding, self._opened.device
        arrays = {
            self._names.input_ids: np.array([token_ids], np.int64),
            self._names.position_ids: self._positions[:, n_past : n_past + n_new],
            self._names.attention_mask: self._mask[:, : n_past + n_new],
            self._names.logits_from: np.array([n_new - n_rows], np.int64),
        }
        for name, array in arrays.items():
            if name:
                binding.bind_cpu_input(name, array)
        # Outputs come back in the order in which they were first bound: the logits come first.
        binding.bind_ortvalue_output(self._names.logits, self._logits.value(n_rows))
        for past, present, value in zip(self._past, self._present, cache.values, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_output(present, device)
        self._opened.session.run_with_iobinding(binding)
        _, *cache.values = binding.get_outputs()
        cache.n_held = n_past + n_new
        return as_logits(self._logits.last_rows(n_logits))

    def _cut(self, cache: PortableCache) -> None:
        """Cut the values to the tokens that count: one copy of those, only after a truncation."""
        if cache.n_held == cache.n_tokens:
            return
        value = self._opened.ort.OrtValue.ortvalue_from_numpy
        kept = (v.numpy()[:, :, : cache.n_tokens].copy() for v in cache.values)  # [1, H, P, D]
        cache.values = [value(k, self._opened.device, 0) for k in kept]
        cache.n_held = cache.n_tokens
