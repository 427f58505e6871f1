"""What fewer bits cost: the same weights in each number format, held to fp32 PyTorch on real text.

Speed is measured elsewhere. Perplexity would not compare across vocabularies, bits per byte do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, figure
from benchmarks.results import Recorder
from export.pipeline import Device, ExportOptions, export_bundle
from server.backends.contract import Backend, BackendOptions, TokenIds
from server.backends.ort import OrtBackend
from server.backends.predictions import log_softmax
from server.backends.pytorch import PyTorchBackend
from server.bundle import TOKENIZER_FILE, Bundle, read_bundle
from server.decoding.tokenizer import Tokenizer
from server.manifest import Dtype

DTYPES: tuple[Dtype, ...] = ("fp32", "fp16", "int8", "int4")
GREEDY_TOKENS = 256
PROMPT_TOKENS = 64
REFERENCE = "PyTorch fp32"
LogProbs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Tokens that are read in one pass, and the bytes that they spell."""

    token_ids: list[int]
    """The first one is the end token and is not scored."""
    n_bytes: int


def list_passages(bundle: Bundle, texts: Sequence[str]) -> list[Passage]:
    """Cut each text to what one context holds, read from its beginning."""
    spec = bundle.manifest.spec
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.n_vocab)
    passages = []
    for text in texts:
        ids = tokenizer.encode(text)[: spec.n_ctx - 1]
        n_bytes = sum(len(tokenizer.token_bytes[i]) for i in ids)
        passages.append(
            Passage(token_ids=[bundle.manifest.special_tokens.end, *ids], n_bytes=n_bytes)
        )
    return passages


def export_all(
    bundle: Bundle, folder: Path, step: Callable[[str], None]
) -> tuple[dict[str, Bundle], list[str]]:
    """Export a bundle's own weights in every number format; say what can't be.

    Raises:
        BenchmarkError: the bundle carries no weights.
    """
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no checkpoint to export from")
    checkpoint = folder / "checkpoint"
    shutil.copytree(bundle.checkpoint_path, checkpoint)
    shutil.copy(bundle.tokenizer_path, checkpoint / TOKENIZER_FILE)
    bundles, notes = {}, []
    for dtype in DTYPES:
        step(f"exporting {dtype}")
        # What is written for a GPU runs on a CPU as well, only slower.
        device: Device = "cuda" if dtype == "fp16" else "cpu"
        options = ExportOptions(
            model=str(checkpoint), output=folder / dtype, dtype=dtype, device=device
        )
        try:
            bundles[dtype] = read_bundle(export_bundle(options, lambda _: None).folder)
        except Exception as exc:  # of any library on the way; the table names it
            notes.append(f"left out: {dtype}: {type(exc).__name__}: {exc}")
    return bundles, notes


def measure(
    recorder: Recorder,
    bundles: dict[str, Bundle],
    passages: Sequence[Passage],
    n_threads: int,
    step: Callable[[str], None],
) -> None:
    """Read passages and write greedily in each format; record figures against fp32 PyTorch.

    Args:
        recorder: takes the figures.
        bundles: the same weights, by format; one of them at least.
        passages: of held-out text.
        n_threads: of each backend.
        step: told after each format.
    """
    options = BackendOptions(device="cpu", n_threads=n_threads)
    any_bundle = next(iter(bundles.values()))
    reference: Backend = PyTorchBackend.load(any_bundle, options)
    step(REFERENCE)
    truth = [read(reference, passage) for passage in passages]
    prompts = [passage.token_ids[:PROMPT_TOKENS] for passage in passages]
    n_new = min(GREEDY_TOKENS, any_bundle.manifest.spec.n_ctx - PROMPT_TOKENS - 1)
    written = [write_greedily(reference, prompt, n_new) for prompt in prompts]
    recorder.figures += _likelihood(REFERENCE, passages, truth)
    for name, bundle in bundles.items():
        step(name)
        backend = OrtBackend.load(bundle, options)
        own = [read(backend, passage) for passage in passages]
        texts = [write_greedily(backend, prompt, n_new) for prompt in prompts]
        recorder.figures += [
            *_likelihood(name, passages, own),
            figure(name, "relative_error", "", [_error(o, t) for o, t in _pairs(own, truth)]),
            figure(
                name,
                "same_choice",
                "",
                [float((o.argmax(-1) == t.argmax(-1)).mean()) for o, t in _pairs(own, truth)],
                "share of next tokens, given the same text",
            ),
            figure(
                name,
                "same_text_tokens",
                "tokens",
                [float(_common_prefix(o, t)) for o, t in zip(texts, written, strict=True)],
                f"of {n_new} greedy ones, before the first that differs",
            ),
        ]


def read(backend: Backend, passage: Passage) -> LogProbs:
    """Return the log-probabilities of each scored token's place: [T, V] for T scored tokens."""
    ids = passage.token_ids[:-1]
    logits = backend.forward(ids, backend.new_cache(), n_logits=len(ids))
    return np.stack([log_softmax(row) for row in logits])


def write_greedily(backend: Backend, prompt: TokenIds, n_new: int) -> list[int]:
    """Return the likeliest tokens after a prompt, one by one over a growing cache."""
    cache = backend.new_cache()
    token_ids: list[int] = []
    given = list(prompt)
    for _ in range(n_new):
        token_ids.append(int(backend.forward(given, cache)[-1].argmax()))
        given = token_ids[-1:]
    return token_ids


def _likelihood(
    name: str, passages: Sequence[Passage], rows: Sequence[LogProbs]
) -> tuple[Figure, Figure]:
    bits, right = [], []
    for passage, log_probs in zip(passages, rows, strict=True):
        targets = np.array(passage.token_ids[1:])
        nats = -log_probs[np.arange(len(targets)), targets].sum(dtype=np.float64)
        bits.append(float(nats / np.log(2) / passage.n_bytes))
        right.append(float((log_probs.argmax(-1) == targets).mean()))
    return figure(name, "bits_per_byte", "", bits), figure(name, "token_accuracy", "", right)


def _pairs(own: Sequence[LogProbs], truth: Sequence[LogProbs]) -> list[tuple[LogProbs, LogProbs]]:
    return list(zip(own, truth, strict=True))


def _error(own: LogProbs, truth: LogProbs) -> float:
    """Return the norm of the difference by the norm of what is right."""
    return float(np.linalg.norm(own - truth) / np.linalg.norm(truth))


def _common_prefix(own: Sequence[int], truth: Sequence[int]) -> int:
    pairs = enumerate(zip(own, truth, strict=True))
    return next((i for i, (a, b) in pairs if a != b), len(own))
