"""Runs the fused layout: one KV buffer per layer that the graph's input and output share.

A pass writes its new tokens into the buffers in place, so nothing of the past is ever copied, and
to truncate is to count less. Does not know how the session was opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import finalize

import numpy as np

from server.backends.contract import Logits, TokenIds, check_truncation
from server.backends.ort_captured import CapturedPass, uncaptured
from server.backends.ort_rows import RowBuffer, as_logits
from server.backends.ort_session import OpenSession, cache_names
from server.backends.predictions import NormalizedPrediction, Prediction

Answer = Literal["logits", "predictions"]
"""Which of the graph's outputs a pass is asked for."""
KEPT_WIDTHS = 16  # numbers of new tokens whose input arrays are kept; decoding and drafts are short


@dataclass(frozen=True, slots=True)
class _NewTokens:
    """The inputs for T new tokens: arrays [1, T], and OrtValues on the same memory."""

    ids: Any
    positions: Any
    bound_ids: Any
    bound_positions: Any


class _Binding:
    """A cache bound for passes that answer one way, and what else is bound to it now."""

    def __init__(self, bound: Any) -> None:
        self.bound = bound
        self.tokens: _NewTokens | None = None
        self.rows: list[Any] = []
        """The OrtValues of the answer's outputs."""


class FusedCache:
    """Keys and values of M tokens per layer, allocated once, and how many of them count."""

    def __init__(self, buffers: Mapping[str, Any], captured: CapturedPass | None = None) -> None:
        """Start empty.

        Args:
            buffers: OrtValues by the names of the graph's inputs; a binding alone would not keep
                their memory.
            captured: bound to them.
        """
        self.n_tokens = 0
        self.buffers = buffers
        self.n_bytes = sum(int(value.tensor_size_in_bytes()) for value in buffers.values())
        self.bindings: dict[Answer, _Binding] = {}
        self.captured = captured

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`: what lies there is written over later."""
        check_truncation(n_tokens, self.n_tokens)
        self.n_tokens = n_tokens


class FusedGraph:
    """A session whose caches are bound once; a pass only writes five small arrays."""

    def __init__(self, opened: OpenSession) -> None:
        self._opened = opened
        self._names = names = opened.manifest.tensors
        self._rows: dict[Answer, list[RowBuffer]] = {
            "logits": [RowBuffer(opened, names.logits, opened.manifest.spec.n_vocab)],
            "predictions": _prediction_rows(opened),
        }
        self._positions = np.arange(opened.manifest.spec.n_ctx, dtype=np.int64)
        self._run_options = uncaptured(opened.ort) if opened.captures else None
        self._n_captured = 0
        self._spare: list[tuple[Mapping[str, Any], CapturedPass]] = []
        """Of caches that nobody has any more: a session keeps a CUDA graph as long as it lives."""
        self._kept_tokens: dict[int, _NewTokens] = {}
        self._last_index = np.zeros(1, np.int32)  # P + T - 1
        self._total = np.zeros(1, np.int32)  # P + T
        self._logits_from = np.zeros(1, np.int64)
        value = opened.ort.OrtValue.ortvalue_from_numpy
        self._counts = {
            names.seqlens_k: value(self._last_index),
            names.total_len: value(self._total),
            names.logits_from: value(self._logits_from),
        }

    @property
    def normalizes(self) -> bool:
        """Whether the graph answers with log-probabilities too, so that it can `predict`."""
        return bool(self._names.log_probs)

    def new_cache(self) -> FusedCache:
        """Allocate the buffers; the graph's input and output share them."""
        if not self._opened.captures:
            return FusedCache(self._new_buffers())
        buffers, captured = self._spare.pop() if self._spare else self._capturing()
        cache = FusedCache(buffers, captured)
        finalize(cache, self._spare.append, (buffers, captured)).atexit = False
        return cache

    def _capturing(self) -> tuple[Mapping[str, Any], CapturedPass]:
        buffers = self._new_buffers()
        self._n_captured += 1
        return buffers, CapturedPass(self._opened, buffers, self._n_captured)

    def _new_buffers(self) -> Mapping[str, Any]:
        opened = self._opened
        past, _ = cache_names(opened.manifest)
        shape = opened.cache_shape(opened.manifest.spec.n_ctx)
        # Zeroed lazily by the system: pages that no token has reached take no memory.
        return {
            name: opened.ort.OrtValue.ortvalue_from_numpy(
                np.zeros(shape, opened.dtype_of(name)), opened.device, 0
            )
            for name in past
        }

    def run(self, token_ids: TokenIds, cache: FusedCache, n_logits: int) -> Logits:
        """Run the graph on checked arguments; the caller counts the new tokens."""
        (logits,) = self._pass(token_ids, cache, n_logits, "logits")
        return as_logits(logits.last_rows(n_logits))

    def predict(self, token_ids: TokenIds, cache: FusedCache, n_rows: int) -> list[Prediction]:
        """Run the graph on checked arguments; the caller counts the new tokens."""
        if cache.captured is not None and len(token_ids) == n_rows == 1:
            return [cache.captured.predict(token_ids[0], cache.n_tokens)]
        log_probs, *best = self._pass(token_ids, cache, n_rows, "predictions")
        if best:
            best_ids, best_log_probs = (rows.last_rows(n_rows)[:, 0] for rows in best)
        else:
            rows = log_probs.last_rows(n_rows)
            best_ids = rows.argmax(axis=-1)
            best_log_probs = rows[np.arange(n_rows), best_ids]
        return [
            NormalizedPrediction(int(best_ids[row]), float(best_log_probs[row]), fetch)
            for row, fetch in enumerate(log_probs.fetchers(n_rows))
        ]

    def _pass(
        self, token_ids: TokenIds, cache: FusedCache, n_rows: int, answer: Answer
    ) -> list[RowBuffer]:
        """Run the graph and return the buffers that hold the answer."""
        n_past, n_new = cache.n_tokens, len(token_ids)
        tokens = self._new_tokens(n_new)
        tokens.ids[0] = token_ids
        tokens.positions[0] = self._positions[n_past : n_past + n_new]
        self._last_index[0] = n_past + n_new - 1
        self._total[0] = n_past + n_new
        self._logits_from[0] = n_new - n_rows
        rows = self._rows[answer]
        binding = cache.bindings.get(answer) or self._bind_cache(cache, answer)
        self._bind(binding, tokens, rows, n_rows)
        self._opened.session.run_with_iobinding(binding.bound, self._run_options)
        return rows

    def _bind_cache(self, cache: FusedCache, answer: Answer) -> _Binding:
        """Bind the buffers as input and output alike, and what is the same in each pass."""
        past, present = cache_names(self._opened.manifest)
        bound = self._opened.session.io_binding()
        for past_name, present_name in zip(past, present, strict=True):
            bound.bind_ortvalue_input(past_name, cache.buffers[past_name])
            bound.bind_ortvalue_output(present_name, cache.buffers[past_name])
        for name, value in self._counts.items():
            bound.bind_ortvalue_input(name, value)
        cache.bindings[answer] = binding = _Binding(bound)
        return binding

    def _bind(
        self, binding: _Binding, tokens: _NewTokens, rows: Sequence[RowBuffer], n_rows: int
    ) -> None:
        is_copied = self._opened.device != "cpu"  # Binding is what copies an input to the device.
        if binding.tokens is not tokens or is_copied:
            binding.bound.bind_ortvalue_input(self._names.input_ids, tokens.bound_ids)
            binding.bound.bind_ortvalue_input(self._names.position_ids, tokens.bound_positions)
            binding.tokens = tokens
        if is_copied:
            for name, value in self._counts.items():
                binding.bound.bind_ortvalue_input(name, value)
        values = [buffer.value(n_rows) for buffer in rows]
        if values != binding.rows:
            for buffer, value in zip(rows, values, strict=True):
                binding.bound.bind_ortvalue_output(buffer.name, value)
            binding.rows = values

    def _new_tokens(self, n_new: int) -> _NewTokens:
        if (kept := self._kept_tokens.get(n_new)) is not None:
            return kept
        value = self._opened.ort.OrtValue.ortvalue_from_numpy
        ids, positions = np.empty((1, n_new), np.int64), np.empty((1, n_new), np.int64)
        tokens = _NewTokens(ids, positions, value(ids), value(positions))
        if n_new <= KEPT_WIDTHS:
            self._kept_tokens[n_new] = tokens
        return tokens


def _prediction_rows(opened: OpenSession) -> list[RowBuffer]:
    """Return buffers for log-probabilities, and for the likeliest tokens if the graph finds them:
    then the log-probabilities stay on the device until somebody asks.
    """
    names, n_vocab = opened.manifest.tensors, opened.manifest.spec.n_vocab
    if not names.log_probs:
        return []
    if not (names.best_ids and names.best_log_probs):
        return [RowBuffer(opened, names.log_probs, n_vocab)]
    return [
        RowBuffer(opened, names.log_probs, n_vocab, opened.device),
        RowBuffer(opened, names.best_ids, 1),
        RowBuffer(opened, names.best_log_probs, 1),
    ]
