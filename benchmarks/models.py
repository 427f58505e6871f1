"""The models that are measured: a bundle, or a GPT-2 of 124M random weights made here.

Speed does not depend on the weights, so a fixed seed stands in for a download. The random network
gets the embedded model's tokenizer: its 8192 tokens are the first of the 50257, the others are
never asked for and never shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import platformdirs

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Device
from server.bundle import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    EMBEDDED_FOLDER,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Bundle,
    locate_bundle,
    read_bundle,
)
from server.manifest import Dtype

SEED = 124
# The sizes of the published GPT-2 of 124M weights.
SIZES = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257}
RANDOM_DTYPES: tuple[Dtype, ...] = ("int8", "fp32", "int4", "fp16")
_SAFETENSORS_BYTES = {"F32": 4, "F16": 2, "BF16": 2}

Progress = Callable[[str], None]


def open_bundle(
    model: str, random_dtype: Dtype | None, progress: Progress, device: Device = "cpu"
) -> Bundle:
    """Return the bundle to measure.

    Args:
        model: as the server's setting `model`; empty for the embedded one.
        random_dtype: of the random GPT-2 of 124M weights, which is then made instead.
        progress: is told what takes time.
        device: what the random model is exported for.

    Raises:
        CompletionServerError: there is no such bundle, or it can't be made.
    """
    if random_dtype is None:
        return read_bundle(locate_bundle(model))
    folder = random_folder(random_dtype, device)
    if not (folder / MANIFEST_FILE).is_file():
        make_random_bundle(folder, random_dtype, progress, device)
    return read_bundle(folder)


def random_folder(dtype: Dtype, device: Device = "cpu") -> Path:
    """Where the random model is kept from run to run."""
    cache = platformdirs.user_cache_path("foretype", appauthor=False)
    on_device = "" if device == "cpu" else f"-{device}"
    return cache / "benchmarks" / f"gpt2-124m-random-{dtype}{on_device}"


def make_random_bundle(
    folder: Path, dtype: Dtype, progress: Progress, device: Device = "cpu", **sizes: int
) -> None:
    """Export a GPT-2 with random weights.

    Raises:
        BenchmarkError: torch and transformers are not installed.
        CompletionServerError: the export failed.
    """
    try:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError as exc:
        raise BenchmarkError(
            f"random weights need torch and transformers ({exc}); install foretype[torch]"
        ) from exc
    from export.pipeline import ExportOptions, export_bundle

    progress(f"making a random GPT-2 in {dtype}, once")
    torch.manual_seed(SEED)
    fields = SIZES | sizes | {"bos_token_id": 0, "eos_token_id": 0}
    network = GPT2LMHeadModel(GPT2Config(**fields))  # type: ignore[no-untyped-call]
    with TemporaryDirectory() as temporary:
        checkpoint = Path(temporary) / "gpt2-random"
        network.save_pretrained(checkpoint)
        copyfile(EMBEDDED_FOLDER / TOKENIZER_FILE, checkpoint / TOKENIZER_FILE)
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = ExportOptions(
            model=str(checkpoint), output=folder, dtype=dtype, device=device, name=folder.name
        )
        export_bundle(options, progress)


def graph_weight_bytes(bundle: Bundle) -> int:
    """Return the bytes of weights that the graph reads per token.

    All of the graph but the learned positions, of which one row is read. The embedding is the head.
    """
    spec = bundle.manifest.spec
    bytes_per_position = 2 if bundle.manifest.cache_dtype == "fp16" else 4
    return bundle.model_path.stat().st_size - spec.n_ctx * spec.n_embd * bytes_per_position


def checkpoint_weight_bytes(bundle: Bundle, n_bytes: int = 4) -> int:
    """Return the bytes that PyTorch reads per token, in float32 unless told otherwise.

    Raises:
        BenchmarkError: the bundle has no checkpoint.
    """
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no {CHECKPOINT_FOLDER}/{WEIGHTS_FILE}")
    spec = bundle.manifest.spec
    shapes = _shapes(bundle.checkpoint_path / WEIGHTS_FILE)
    return (sum(math.prod(shape) for shape in shapes) - spec.n_ctx * spec.n_embd) * n_bytes


def architecture(bundle: Bundle) -> str:
    """Return transformers' name of the bundle's architecture, or an empty text."""
    if bundle.checkpoint_path is None:
        return ""
    config = json.loads((bundle.checkpoint_path / CONFIG_FILE).read_text(encoding="utf-8"))
    return str(config.get("model_type", ""))


def _shapes(path: Path) -> list[list[int]]:
    """Read the shapes of floating tensors from the header of a safetensors file.

    Source: https://github.com/huggingface/safetensors#format
    """
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [one["shape"] for one in header.values() if one.get("dtype") in _SAFETENSORS_BYTES]
