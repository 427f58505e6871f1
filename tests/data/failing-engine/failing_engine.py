"""The local engine over an onnxruntime that stops working after a few tokens, in several ways."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from server.backends.contract import Logits, TokenIds
from server.backends.ort import OrtBackend
from server.completion import watchdog
from server.completion.engine import OnProgress, untold
from server.completion.engines.local import LocalEngine
from server.errors import BackendFailedError
from server.options import Options

FAILS_AT = int(os.environ.get("FAILS_AT", "6"))
"""Which forward pass after loading fails, counted from 1."""
FAILS_HOW = os.environ.get("FAILS_HOW", "raises")
"""`raises`, `hangs`, `nan`, `shape` or `memory`."""


REAL = OrtBackend.forward


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

    def forward(backend: OrtBackend, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        nonlocal n_passes
        n_passes += 1
        if n_passes >= FAILS_AT:
            return fail(backend)
        return REAL(backend, token_ids, cache, n_logits)

    OrtBackend.forward = forward  # type: ignore[method-assign]


def fail(backend: OrtBackend) -> Logits:
    """Fail as the environment says; what onnxruntime would raise passes the backend's border."""
    if FAILS_HOW == "hangs":
        threading.Event().wait()
    if FAILS_HOW == "raises":
        raise BackendFailedError("device lost")
    wrong = {
        "nan": lambda *_: np.full((1, backend.spec.n_vocab), np.nan, np.float32),
        "shape": lambda *_: np.zeros((1, 7), np.float32),
        "memory": out_of_memory,
    }
    backend._graph.run = wrong[FAILS_HOW]
    return REAL(backend, [0], backend.new_cache())


def out_of_memory(*_: object) -> Logits:
    """Raise what numpy raises."""
    raise MemoryError
