"""The pass of one token over one cache at addresses that never change.

So CUDA can capture its hundred kernels as one graph and replay it with a single launch. On the CPU
the same pass runs uncaptured, which is how it is tested where there is no graphics card. Does not
know how the session was opened.

Sources: onnxruntime's docs on the CUDA provider, "Using CUDA Graphs"; that `total_len` may be the
capacity, as it is read by the CPU and would be captured with its value: onnxruntime-genai, whose
attention mask is as long as its buffers while it captures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from server.backends.ort_session import OpenSession, cache_names
from server.backends.predictions import LogProbs, NormalizedPrediction

GRAPH_ID = "gpu_graph_id"
NOT_CAPTURED = "-1"


def uncaptured(ort: Any) -> Any:
    """Return run options for a pass that is neither captured nor replayed."""
    return _run_options(ort, NOT_CAPTURED)


class CapturedPass:
    """One token after the past of one cache, for a graph that finds the likeliest token itself."""

    def __init__(self, opened: OpenSession, buffers: Mapping[str, Any], graph_id: int) -> None:
        """Allocate the inputs and outputs and bind them for good.

        Args:
            opened: the session; its graph answers with `best_ids`.
            buffers: of the cache, by the names of the graph's inputs.
            graph_id: of no other cache of the session.
        """
        self._opened = opened
        self._options = _run_options(opened.ort, str(graph_id))
        self._binding = opened.session.io_binding()
        names, spec = opened.manifest.tensors, opened.manifest.spec
        past, present = cache_names(opened.manifest)
        for past_name, present_name in zip(past, present, strict=True):
            self._binding.bind_ortvalue_input(past_name, buffers[past_name])
            self._binding.bind_ortvalue_output(present_name, buffers[past_name])
        value = opened.ort.OrtValue.ortvalue_from_numpy
        self._ids = value(np.zeros((1, 1), np.int64), opened.device, 0)
        self._positions = value(np.zeros((1, 1), np.int64), opened.device, 0)
        self._last_index = value(np.zeros(1, np.int32), opened.device, 0)
        inputs = {
            names.input_ids: self._ids,
            names.position_ids: self._positions,
            names.seqlens_k: self._last_index,
            names.total_len: value(np.array([spec.n_ctx], np.int32)),
            names.logits_from: value(np.zeros(1, np.int64)),
        }
        for name, given in inputs.items():
            self._binding.bind_ortvalue_input(name, given)
        make = opened.ort.OrtValue.ortvalue_from_shape_and_type
        self._log_probs = make((1, 1, spec.n_vocab), np.float32, opened.device, 0)
        self._best_ids = make((1, 1, 1), np.int64, opened.device, 0)
        self._best_log_probs = make((1, 1, 1), np.float32, opened.device, 0)
        outputs = {
            names.log_probs: self._log_probs,
            names.best_ids: self._best_ids,
            names.best_log_probs: self._best_log_probs,
        }
        for name, given in outputs.items():
            self._binding.bind_ortvalue_output(name, given)

    def predict(self, token_id: int, n_past: int) -> NormalizedPrediction:
        """Run one token after a past of so many; the caller counts it."""
        self._ids.update_inplace(np.array([[token_id]], np.int64))
        self._positions.update_inplace(np.array([[n_past]], np.int64))
        self._last_index.update_inplace(np.array([n_past], np.int32))
        self._opened.session.run_with_iobinding(self._binding, self._options)
        return NormalizedPrediction(
            int(self._best_ids.numpy().item()),
            float(self._best_log_probs.numpy().item()),
            self._row,
        )

    def _row(self) -> LogProbs:
        row: LogProbs = self._log_probs.numpy()[0, 0].copy()
        return row


def _run_options(ort: Any, graph_id: str) -> Any:
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options
