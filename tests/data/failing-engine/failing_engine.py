"""The local engine over an onnxruntime whose device is lost after a few tokens."""

from __future__ import annotations

import os
from typing import Any

from server.backends.contract import Logits, TokenIds
from server.backends.ort import OrtBackend
from server.completion.engines.local import LocalEngine
from server.errors import BackendFailedError
from server.options import Options

FAILS_AT = int(os.environ.get("FAILS_AT", "6"))
"""Which forward pass after loading raises, counted from 1."""


class FailingEngine(LocalEngine):
    """Real backends; onnxruntime stops working in the middle of a completion."""

    @classmethod
    def load(cls, options: Options) -> FailingEngine:
        """Load as usual, then let onnxruntime fail."""
        engine = super().load(options)
        assert isinstance(engine, cls)
        lose_device()
        return engine


def lose_device() -> None:
    """Make every onnxruntime backend raise from its `FAILS_AT`th forward pass on."""
    real, n_passes = OrtBackend.forward, 0

    def forward(backend: OrtBackend, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        nonlocal n_passes
        n_passes += 1
        if n_passes >= FAILS_AT:
            raise BackendFailedError("device lost")
        return real(backend, token_ids, cache, n_logits)

    OrtBackend.forward = forward  # type: ignore[method-assign]
