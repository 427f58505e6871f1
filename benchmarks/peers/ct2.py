"""CTranslate2 as a peer: the same checkpoint, converted when it is loaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Subject, SubjectSpec, Task
from server.bundle import TOKENIZER_FILE, read_bundle


class CTranslate2(Subject):
    """Its `Generator`. It keeps the state of a prompt that is said to be static, and no other.

    A line is timed with all of the prompt but its last token static and known: the best case, which
    a text that changes with each key is not.
    """

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        bundle = read_bundle(spec.folder)
        if bundle.checkpoint_path is None:
            raise BenchmarkError(f"{spec.folder} has no checkpoint")
        with TemporaryDirectory() as temporary:
            checkpoint = Path(temporary) / "checkpoint"
            shutil.copytree(bundle.checkpoint_path, checkpoint)
            shutil.copy(bundle.tokenizer_path, checkpoint / TOKENIZER_FILE)
            converted = Path(temporary) / "converted"
            kind = spec.options["quantization"]
            TransformersConverter(str(checkpoint)).convert(str(converted), quantization=kind)
            vocabulary = json.loads((converted / "vocabulary.json").read_text(encoding="utf-8"))
            self._generator: Any = ctranslate2.Generator(
                str(converted), device="cpu", compute_type=kind, intra_threads=spec.n_threads
            )
        self._tokens = [vocabulary[i % len(vocabulary)] for i in self.token_ids]

    def describe(self) -> dict[str, Any]:
        """Return what runs."""
        return {"provider": "ctranslate2", "dtype": self._generator.compute_type}

    def run(self, task: Task) -> float | None:
        """Time one call; what one token takes is told from when each came."""
        prompt = self._tokens[: task.n_prompt]
        match task.name:
            case "prefill":
                return self._generate([], prompt, 1)[-1]
            case "line":
                return self._generate(prompt[:-1], prompt[-1:], task.n_new)[-1]
            case "decode":
                times_ms = self._generate([], prompt, task.n_new + 1)
                return (times_ms[-1] - times_ms[0]) / task.n_new
            case "verify":
                return None

    def _generate(self, static: list[str], prompt: list[str], n_new: int) -> list[float]:
        """Return when each new token was there, in milliseconds from the call."""
        times_s: list[float] = []

        def note(_: Any) -> bool:
            times_s.append(time.perf_counter())
            return False

        started_s = time.perf_counter()
        self._generator.generate_batch(
            [prompt],
            static_prompt=static or None,
            min_length=n_new,
            max_length=n_new,
            beam_size=1,
            end_token=[],
            include_prompt_in_result=False,
            callback=note,
        )
        return [1e3 * (when_s - started_s) for when_s in times_s]
