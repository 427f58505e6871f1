"""The local engine over an onnxruntime that stops working after a few tokens, in several ways."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from server.backends.contract import TokenIds
from server.backends.ort import OrtBackend
from server.backends.predictions import NormalizedPrediction, Prediction
from server.completion import watchdog
from server.completion.engine import OnProgress, untold
from server.completion.engines.local import LocalEngine
from server.errors import BackendFailedError
from server.options import Options

FAILS_AT = int(os.environ.get("FAILS_AT", "6"))
"""Which forward pass after loading fails, counted from 1."""
FAILS_HOW = os.environ.get("FAILS_HOW", "raises")
"""`raises`, `hangs`, `nan`, `shape` or `memory`."""


REAL = OrtBackend.predict


class FailingEngine(LocalEngine):
    """Real backends; onnxruntime stops working in the middle of a completion."""

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> FailingEngine:
        """Load as usual, then let onnxruntime fail."""
        engine = super().load(options, on_progress)
        assert isinstance(engine, cls)
        lose_device()
        if FAILS_HOW == "hangs":
            watchdog.CALL_LOOKS = 3
        return engine


def lose_device() -> None:
    """Make every onnxruntime backend raise from its `FAILS_AT`th forward pass on."""
    n_passes = 0

    def predict(
        backend: OrtBackend, token_ids: TokenIds, cache: Any, n_rows: int = 1
    ) -> Sequence[Prediction]:
        nonlocal n_passes
        n_passes += 1
        if n_passes >= FAILS_AT:
            return fail(backend)
        return REAL(backend, token_ids, cache, n_rows)

    OrtBackend.predict = predict  # type: ignore[method-assign]


def fail(backend: OrtBackend) -> Sequence[Prediction]:
    """Fail as the environment says; what onnxruntime would raise passes the backend's border."""
    if FAILS_HOW == "hangs":
        threading.Event().wait()
    if FAILS_HOW == "raises":
        raise BackendFailedError("device lost")
    graph = backend._graph
    if FAILS_HOW == "nan":
        graph.predict = lambda *_: [NormalizedPrediction(0, math.nan, out_of_memory)]
    if FAILS_HOW == "memory":
        graph.predict = out_of_memory
    if FAILS_HOW == "shape":  # As of a graph that ends with the logits.
        type(graph).normalizes = False
        graph.run = lambda *_: np.zeros((1, 7), np.float32)
    return REAL(backend, [0], backend.new_cache())


def out_of_memory(*_: object) -> Any:
    """Raise what numpy raises."""
    raise MemoryError
