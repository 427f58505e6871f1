"""CTranslate2 as a peer: the same checkpoint, converted when it is loaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers.generating import Generating, checkpoint_of
from benchmarks.subjects import SubjectSpec
from server.bundle import TOKENIZER_FILE


class CTranslate2(Generating):
    """Its `Generator`. It keeps the state of a prompt that is said to be static, and no other.

    What is known of a prompt is declared so: the best case, which a text that changes with each key
    is not.
    """

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        bundle, own = checkpoint_of(spec)
        with TemporaryDirectory() as temporary:
            checkpoint = Path(temporary) / "checkpoint"
            shutil.copytree(own, checkpoint)
            tokenizer = bundle.tokenizer_path.read_text(encoding="utf-8")
            named = name_all_ids(json.loads(tokenizer), bundle.manifest.spec.n_vocab)
            (checkpoint / TOKENIZER_FILE).write_text(json.dumps(named), encoding="utf-8")
            converted = Path(temporary) / "converted"
            kind = spec.options["quantization"]
            TransformersConverter(str(checkpoint)).convert(str(converted), quantization=kind)
            vocabulary = json.loads((converted / "vocabulary.json").read_text(encoding="utf-8"))
            self._vocabulary: list[str] = vocabulary
            self._generator: Any = ctranslate2.Generator(
                str(converted), device="cpu", compute_type=kind, intra_threads=spec.n_threads
            )

    def describe(self) -> dict[str, Any]:
        """Return what runs."""
        return {"provider": "ctranslate2", "dtype": self._generator.compute_type}

    def generate(self, prompt: list[int], n_new: int, n_known: int = 0) -> list[float]:
        """Generate; see `Generating.generate`."""
        tokens = [self._vocabulary[i] for i in prompt]
        times_s: list[float] = []

        def note(_: Any) -> bool:
            times_s.append(time.perf_counter())
            return False

        started_s = time.perf_counter()
        self._generator.generate_batch(
            [tokens[n_known:]],
            static_prompt=tokens[:n_known] or None,
            min_length=n_new,
            max_length=n_new,
            beam_size=1,
            end_token=[],
            include_prompt_in_result=False,
            callback=note,
        )
        return [1e3 * (when_s - started_s) for when_s in times_s]


def name_all_ids(tokenizer: dict[str, Any], n_vocab: int) -> dict[str, Any]:
    """Return a `tokenizer.json` in which the ids that it leaves open have names: the converter
    wants one for each row of the embedding.
    """
    model = tokenizer["model"]
    taken = {*model["vocab"].values(), *(one["id"] for one in tokenizer.get("added_tokens", ()))}
    unused = {f"<unused {i}>": i for i in range(n_vocab) if i not in taken}
    return {**tokenizer, "model": {**model, "vocab": {**model["vocab"], **unused}}}
