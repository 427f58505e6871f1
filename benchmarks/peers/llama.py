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

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Subject, SubjectSpec, Task
from server.bundle import read_bundle


class LlamaCpp(Subject):
    """Its `Llama.generate`, greedy; like its server, it keeps the longest common prefix."""

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        from llama_cpp import Llama

        from benchmarks.peers.gguf_file import write_gguf

        bundle = read_bundle(spec.folder)
        if bundle.checkpoint_path is None:
            raise BenchmarkError(f"{spec.folder} has no checkpoint")
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.gguf"
            kind = spec.options["quantization"]
            write_gguf(bundle.checkpoint_path, bundle.tokenizer_path, path, kind)
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

    def run(self, task: Task) -> float | None:
        """Time `generate`, from the call to its end, or between the first and the last token."""
        prompt = self.token_ids[: task.n_prompt]
        match task.name:
            case "prefill":
                self._model.reset()
                return self._generate(prompt, 1)[-1]
            case "line":
                self._model.reset()
                self._generate(prompt[:-1], 1)
                return self._generate(prompt, task.n_new)[-1]
            case "decode":
                times_ms = self._generate(prompt, task.n_new + 1)
                return (times_ms[-1] - times_ms[0]) / task.n_new
            case "verify":
                return None

    def _generate(self, prompt: list[int], n_new: int) -> list[float]:
        """Return when each new token was there, in milliseconds from the call."""
        started_s = time.perf_counter()
        tokens = self._model.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0)
        return [1e3 * (time.perf_counter() - started_s) for _ in islice(tokens, n_new)]
