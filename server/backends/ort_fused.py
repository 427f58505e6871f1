"""Runs the fused layout: one KV buffer per layer that the graph's input and output share.

A pass writes its new tokens into the buffers in place, so nothing of the past is ever copied, and
to truncate is to count less. Does not know how the session was opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from server.backends.contract import Logits, TokenIds, check_truncation
from server.backends.ort_logits import LogitsBuffer
from server.backends.ort_session import OpenSession, cache_names

KEPT_WIDTHS = 16  # numbers of new tokens whose input arrays are kept; decoding and drafts are short


@dataclass(frozen=True, slots=True)
class _NewTokens:
    """The inputs for T new tokens: arrays [1, T], and OrtValues on the same memory."""

    ids: Any
    positions: Any
    bound_ids: Any
    bound_positions: Any


class FusedCache:
    """Keys and values of M tokens per layer, allocated once, and how many of them count."""

    def __init__(self, binding: Any, buffers: list[Any], n_bytes: int) -> None:
        self.n_tokens = 0
        self.n_bytes = n_bytes
        self.binding = binding
        self.buffers = buffers  # The binding alone would not keep their memory.
        self.bound_tokens: _NewTokens | None = None
        self.bound_logits: Any = None

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`: what lies there is written over later."""
        check_truncation(n_tokens, self.n_tokens)
        self.n_tokens = n_tokens


class FusedGraph:
    """A session whose caches are bound once; a pass only writes five small arrays."""

    def __init__(self, opened: OpenSession) -> None:
        self._opened = opened
        self._names = opened.manifest.tensors
        self._logits = LogitsBuffer(opened)
        self._positions = np.arange(opened.manifest.spec.n_ctx, dtype=np.int64)
        self._kept_tokens: dict[int, _NewTokens] = {}
        self._last_index = np.zeros(1, np.int32)  # P + T - 1
        self._total = np.zeros(1, np.int32)  # P + T
        self._logits_from = np.zeros(1, np.int64)
        value = opened.ort.OrtValue.ortvalue_from_numpy
        self._counts = {
            self._names.seqlens_k: value(self._last_index),
            self._names.total_len: value(self._total),
            self._names.logits_from: value(self._logits_from),
        }

    def new_cache(self) -> FusedCache:
        """Allocate the buffers and bind them as input and output alike."""
        opened = self._opened
        past, present = cache_names(opened.manifest)
        binding = opened.session.io_binding()
        buffers = []
        for past_name, present_name in zip(past, present, strict=True):
            shape = opened.cache_shape(opened.manifest.spec.n_ctx)
            # Zeroed lazily by the system: pages that no token has reached take no memory.
            zeros = np.zeros(shape, opened.dtype_of(past_name))
            value = opened.ort.OrtValue.ortvalue_from_numpy(zeros, opened.device, 0)
            binding.bind_ortvalue_input(past_name, value)
            binding.bind_ortvalue_output(present_name, value)
            buffers.append(value)
        for name, value in self._counts.items():
            binding.bind_ortvalue_input(name, value)
        n_bytes = sum(value.tensor_size_in_bytes() for value in buffers)
        return FusedCache(binding, buffers, n_bytes)

    def run(self, token_ids: TokenIds, cache: FusedCache, n_logits: int) -> Logits:
        """Run the graph on checked arguments; the caller counts the new tokens."""
        n_past, n_new = cache.n_tokens, len(token_ids)
        tokens = self._new_tokens(n_new)
        tokens.ids[0] = token_ids
        tokens.positions[0] = self._positions[n_past : n_past + n_new]
        self._last_index[0] = n_past + n_new - 1
        self._total[0] = n_past + n_new
        self._logits_from[0] = n_new - n_logits
        self._bind(cache, tokens, self._logits.value(n_logits))
        self._opened.session.run_with_iobinding(cache.binding)
        return self._logits.last_rows(n_logits)

    def _bind(self, cache: FusedCache, tokens: _NewTokens, logits: Any) -> None:
        binding = cache.binding
        is_copied = self._opened.device != "cpu"  # Binding is what copies an input to the device.
        if cache.bound_tokens is not tokens or is_copied:
            binding.bind_ortvalue_input(self._names.input_ids, tokens.bound_ids)
            binding.bind_ortvalue_input(self._names.position_ids, tokens.bound_positions)
            cache.bound_tokens = tokens
        if is_copied:
            for name, value in self._counts.items():
                binding.bind_ortvalue_input(name, value)
        if cache.bound_logits is not logits:
            binding.bind_ortvalue_output(self._names.logits, logits)
            cache.bound_logits = logits

    def _new_tokens(self, n_new: int) -> _NewTokens:
        if (kept := self._kept_tokens.get(n_new)) is not None:
            return kept
        value = self._opened.ort.OrtValue.ortvalue_from_numpy
        ids, positions = np.empty((1, n_new), np.int64), np.empty((1, n_new), np.int64)
        tokens = _NewTokens(ids, positions, value(ids), value(positions))
        if n_new <= KEPT_WIDTHS:
            self._kept_tokens[n_new] = tokens
        return tokens
