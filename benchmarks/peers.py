"""The same weights in other programs: each a subject that is measured in turn with our backends.

Every peer is optional: one that is not installed or does not load is named as skipped. Peers that
keep no cache between two calls prefill the whole prompt for a line: that is what using them costs.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Subject, SubjectSpec, Task
from benchmarks.throughput import DECODE_TOKENS, LINE_TOKENS
from server.bundle import CHECKPOINT_FOLDER, Bundle, ModelSpec, read_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program to compare with."""

    name: str
    package: str
    """What is imported."""
    install: str
    maker: str = ""
    """Class in this module; empty: there is none yet, and the report says so."""


PEERS = (
    Peer(
        name="transformers generate fp32",
        package="transformers",
        install="foretype[torch]",
        maker="TransformersGenerate",
    ),
    Peer(
        name="optimum ORTModelForCausalLM fp32",
        package="optimum.onnxruntime",
        install="foretype[torch]",
        maker="OptimumGenerate",
    ),
    Peer(name="CTranslate2 int8", package="ctranslate2", install="ctranslate2"),
    Peer(name="llama.cpp", package="llama_cpp", install="llama-cpp-python"),
    Peer(
        name="onnxruntime-genai",
        package="onnxruntime_genai",
        install="onnxruntime-genai",
    ),
)


def peer_specs(base: SubjectSpec, bundle: Bundle) -> tuple[list[SubjectSpec], list[str]]:
    """Return the peers that can be tried, and why the others are skipped.

    Raises:
        BenchmarkError: the bundle has no weights that a peer could read.
    """
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no {CHECKPOINT_FOLDER} that peers could load")
    specs, skipped = [], []
    for peer in PEERS:
        if not _is_installed(peer.package):
            skipped.append(f"skipped: {peer.name} is not installed (pip install {peer.install})")
        elif not peer.maker:
            skipped.append(f"skipped: {peer.name} can't be driven by this benchmark yet")
        else:
            maker = f"benchmarks.peers:{peer.maker}"
            specs.append(replace(base, name=peer.name, maker=maker, options={}))
    return specs, skipped


def list_tasks(spec: ModelSpec) -> tuple[Task, ...]:
    """Return what every peer can be asked."""
    n_prompt = min(512, spec.n_ctx - DECODE_TOKENS - 1)
    return (
        Task(name="prefill", n_prompt=n_prompt),
        Task(name="decode", n_prompt=n_prompt, n_new=DECODE_TOKENS),
        Task(name="line", n_prompt=n_prompt, n_new=LINE_TOKENS),
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


class TransformersGenerate(Subject):
    """transformers' eager `generate`, as its documentation shows it."""

    dtype = "fp32"

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        import torch

        torch.set_num_threads(spec.n_threads)
        self._torch = torch
        checkpoint = read_bundle(spec.folder).checkpoint_path
        if checkpoint is None:
            raise BenchmarkError(f"{spec.folder} has no checkpoint")
        self._model = self._load(checkpoint)

    def _load(self, checkpoint: Path) -> Any:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=self._torch.float32)
        return model.eval()

    def describe(self) -> dict[str, Any]:
        """Return what runs."""
        return {"provider": type(self._model).__module__.split(".")[0], "dtype": self.dtype}

    def run(self, task: Task) -> float | None:
        """Time `generate`, from the call to its end, or between the first and the last token."""
        prompt = self.token_ids[: task.n_prompt]
        match task.name:
            case "prefill":
                return self._generate(prompt, 1)[-1]
            case "line":
                return self._generate(prompt, task.n_new)[-1]
            case "decode":
                times_ms = self._generate(prompt, task.n_new + 1)
                return (times_ms[-1] - times_ms[0]) / task.n_new
            case "verify":
                return None

    def _generate(self, prompt: Sequence[int], n_new: int) -> list[float]:
        """Return when each new token was there, in milliseconds from the call."""
        ids = self._torch.tensor([list(prompt)])
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
