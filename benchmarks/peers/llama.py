"""llama.cpp as a peer, through llama-cpp-python: the same checkpoint, written as GGUF when loaded.

In this process, so without the HTTP that its server adds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers.generating import Generating, checkpoint_of
from benchmarks.subjects import SubjectSpec


class LlamaCpp(Generating):
    """Its `Llama.generate`, greedy; like its server, it keeps the longest common prefix."""

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        from llama_cpp import Llama

        from benchmarks.peers.gguf_file import write_gguf

        bundle, checkpoint = checkpoint_of(spec)
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.gguf"
            write_gguf(checkpoint, bundle.tokenizer_path, path, spec.options["quantization"])
            self._model: Any = Llama(
                str(path),
                n_ctx=bundle.manifest.spec.n_ctx,
                n_threads=spec.n_threads,
                n_threads_batch=spec.n_threads,
                use_mmap=False,  # The file is gone in a moment.
                verbose=False,
            )

    def describe(self) -> dict[str, Any]:
        """Return what runs."""
        return {"provider": "llama.cpp", "dtype": self.spec.options["quantization"]}

    def generate(self, prompt: list[int], n_new: int, n_known: int = 0) -> list[float]:
        """Generate; see `Generating.generate`."""
        self._model.reset()
        if n_known:
            next(self._tokens(prompt[:n_known]))
        started_s = time.perf_counter()
        return [
            1e3 * (time.perf_counter() - started_s) for _ in islice(self._tokens(prompt), n_new)
        ]

    def _tokens(self, prompt: list[int]) -> Any:
        return self._model.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0)
