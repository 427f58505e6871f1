"""transformers and optimum as peers: the same checkpoint through their own `generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.generating import Generating, checkpoint_of
from benchmarks.subjects import SubjectSpec


class TransformersGenerate(Generating):
    """transformers' eager `generate`, as its documentation shows it."""

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        import torch

        torch.set_num_threads(spec.n_threads)
        self._torch = torch
        self._dtype = torch.float32 if spec.device == "cpu" else torch.float16
        _, checkpoint = checkpoint_of(spec)
        self._model = self._load(checkpoint)

    def _load(self, checkpoint: Path) -> Any:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=self._dtype)
        return model.to(self.spec.device).eval()

    def describe(self) -> dict[str, Any]:
        """Return what runs."""
        dtype = "fp32" if self._dtype is self._torch.float32 else "fp16"
        return {"provider": type(self._model).__module__.split(".")[0], "dtype": dtype}

    def generate(self, prompt: list[int], n_new: int, n_known: int = 0) -> list[float]:
        """Generate; nothing is kept between two calls, so `n_known` spares nothing.

        A token's time is when it is on the CPU, where the streamer gets it.
        """
        ids = self._torch.tensor([prompt], device=self.spec.device)
        streamer = _Stopwatch()
        started_s = time.perf_counter()
        with self._torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                max_new_tokens=n_new,
                min_new_tokens=n_new,
                do_sample=False,
                pad_token_id=0,
                streamer=streamer,
            )
        # The first thing that a streamer is given is the prompt.
        return [1e3 * (when_s - started_s) for when_s in streamer.times_s[1:]]


class CompiledGenerate(TransformersGenerate):
    """`generate` over a cache of fixed size and a compiled forward pass, as its guide advises.

    Source: https://huggingface.co/docs/transformers/llm_optims
    """

    def _load(self, checkpoint: Path) -> Any:
        model = super()._load(checkpoint)
        model.generation_config.cache_implementation = "static"
        model.forward = self._torch.compile(model.forward)
        return model


class _Stopwatch:
    """What transformers calls a streamer: notes when a token came."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def put(self, value: Any) -> None:
        self.times_s.append(time.perf_counter())

    def end(self) -> None:
        """Every token has come."""


class OptimumGenerate(TransformersGenerate):
    """optimum's export of the same checkpoint, through its `generate`."""

    def _load(self, checkpoint: Path) -> Any:
        import warnings

        import onnxruntime
        from optimum.onnxruntime import modeling_decoder

        options = onnxruntime.SessionOptions()  # type: ignore[attr-defined]
        options.intra_op_num_threads = self.spec.n_threads
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        warnings.simplefilter("ignore")  # Dozens of the tracer's, in this process of its own.
        return modeling_decoder.ORTModelForCausalLM.from_pretrained(
            checkpoint,
            export=True,
            provider="CPUExecutionProvider",
            session_options=options,
        )
