"""The onnxruntime backend: both layouts of a bundle, on the CPU or on CUDA.

Here onnxruntime's errors become ours. Does not know how the layouts hold their caches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_logits,
    check_prediction,
)
from server.backends.ort_fused import FusedCache, FusedGraph
from server.backends.ort_portable import PortableCache, PortableGraph
from server.backends.ort_session import OpenSession, first_line, open_session
from server.backends.predictions import Prediction
from server.bundle import Bundle
from server.errors import BackendError, BackendFailedError
from server.process import give_memory_back

logger = logging.getLogger(__name__)


class OrtBackend(Backend):
    """Runs a bundle's graph in an onnxruntime session."""

    def __init__(self, opened: OpenSession, info: BackendInfo) -> None:
        self.spec = opened.manifest.spec
        self.info = info
        self._errors = opened.errors
        # Any: a cache is given back to the graph that made it.
        self._graph: Any = (
            FusedGraph(opened) if opened.manifest.layout == "fused" else PortableGraph(opened)
        )

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> OrtBackend:
        """Open a session; device `auto` is CUDA where it loads, else the CPU."""
        if options.device == "auto":
            try:
                return cls._load_on(bundle, options, "cuda")
            except BackendError as exc:
                logger.info("CUDA is not used: %s", exc)
        return cls._load_on(bundle, options, "cuda" if options.device == "cuda" else "cpu")

    @classmethod
    def _load_on(cls, bundle: Bundle, options: BackendOptions, device: str) -> OrtBackend:
        opened = open_session(bundle, options, device)
        give_memory_back()
        info = BackendInfo(
            name="ort",
            device=opened.device,
            provider=opened.provider,
            dtype=bundle.manifest.dtype,
            details={
                "layout": bundle.manifest.layout,
                "threads": str(opened.n_threads),
                "spinning": "on" if options.spinning else f"{options.spin_us} us",
                "onnxruntime": opened.ort.__version__,
            },
        )
        return cls(opened, info)

    def new_cache(self) -> FusedCache | PortableCache:
        """Return an empty cache in the layout's own form."""
        try:
            cache: FusedCache | PortableCache = self._graph.new_cache()
        except self._errors as exc:
            raise BackendFailedError(f"no memory for a KV cache: {first_line(exc)}") from exc
        return cache

    def forward(self, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        """Run the graph; see `Backend.forward`."""
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        with self._failing():
            logits: Logits = self._graph.run(token_ids, cache, n_logits)
        check_logits(logits, n_logits, self.spec.n_vocab)
        cache.n_tokens += len(token_ids)
        return logits

    def predict(self, token_ids: TokenIds, cache: Any, n_rows: int = 1) -> Sequence[Prediction]:
        """Run the graph; see `Backend.predict`. A fused graph normalizes the rows itself."""
        if not self._graph.normalizes:
            return super().predict(token_ids, cache, n_rows)
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_rows)
        with self._failing():
            predictions: Sequence[Prediction] = self._graph.predict(token_ids, cache, n_rows)
        for prediction in predictions:
            check_prediction(prediction, self.spec.n_vocab)
        cache.n_tokens += len(token_ids)
        return predictions

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Make onnxruntime's errors ours."""
        try:
            yield
        except self._errors as exc:
            raise BackendFailedError(
                f"onnxruntime failed on {self.info.provider}: {first_line(exc)}"
            ) from exc

    def close(self) -> None:
        """Drop the session, and with it its threads and device memory."""
        self._graph = None
