"""From a checkpoint to a bundle: build the graph, write the folder, hold it to PyTorch.

Knows the order of the steps; each step is a module of its own. Prints nothing: progress goes to a
callable.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from export.checkpoint import Checkpoint, load_model, read_checkpoint, read_weights
from export.fused import build_fused
from export.fused_options import ARCHITECTURES, FusedOptions, check_fusable
from export.hub import download_checkpoint, is_hub_name
from export.portable import check_portable, write_portable
from export.special_tokens import FACTS_FILE, FimChoice, find_special_tokens, read_facts
from export.staging import check_target, staged_folder
from server.bundle import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    MANIFEST_FILE,
    MEMORY_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Bundle,
    models_folder,
    read_bundle,
    record_file,
)
from server.decoding.memory.coefficients import coefficients_text, read_coefficients
from server.errors import BundleError, CheckpointError, OptionsError, UnsupportedModelError
from server.manifest import Dtype, FileRecord, Layout, Manifest, TensorNames, manifest_text

if TYPE_CHECKING:
    from export.checkpoint import Weights
    from server.backends.contract import Backend

Device = Literal["cpu", "cuda"]
Progress = Callable[[str], None]

GRAPH_BYTES = 2_000_000_000  # protobuf refuses 2 GiB, and a bundle's graph is one file
BYTES_PER_WEIGHT: Mapping[Dtype, float] = {"fp32": 4, "fp16": 2, "int8": 1.125, "int4": 0.625}
SPEED_PROMPT = 448
SPEED_TOKENS = 16
SPEED_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and how; None leaves the choice to the checkpoint."""

    model: str
    """A checkpoint's folder, or a name on the Hub."""
    output: Path | None = None
    """The bundle's folder; None: the user's models folder, under the bundle's name."""
    layout: Layout | None = None
    dtype: Dtype | None = None
    device: Device = "cpu"
    name: str = ""
    """Empty: the checkpoint's name."""
    revision: str = ""
    fim_order: FimChoice | None = None
    with_checkpoint: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast the bundle runs here and now, whatever else the machine does."""

    provider: str
    prompt_tokens: int
    prefill_ms: float
    decode_ms: float
    """Per token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written."""

    folder: Path
    manifest: Manifest
    speed: Speed


def export_bundle(options: ExportOptions, progress: Progress) -> ExportReport:
    """Write a bundle; nothing appears in the output folder before all of it is checked.

    Raises:
        CompletionServerError: an option, the checkpoint or its graph is refused, or the disk is
        full; what was in the output folder before is then still there.
    """
    folder, source, revision = _locate(options, progress)
    progress("reading the checkpoint")
    checkpoint = read_checkpoint(folder, source, revision)
    plan = _plan(checkpoint, options)
    output = options.output or models_folder() / plan.name
    check_target(output)
    weights = read_weights(checkpoint)
    _check_size(plan, weights)
    with _translated_disk_errors(output), staged_folder(output) as staging:
        progress(f"writing the {plan.layout} graph in {plan.dtype}")
        model = load_model(checkpoint, weights)
        tensors = _write_graph(staging, checkpoint, plan, weights, model)
        shutil.copyfile(checkpoint.folder / TOKENIZER_FILE, staging / TOKENIZER_FILE)
        _copy_memory(checkpoint.folder, staging)
        if options.with_checkpoint:
            _write_checkpoint(staging / CHECKPOINT_FOLDER, checkpoint, weights)
        progress("comparing with PyTorch")
        manifest = replace(plan, tensors=tensors)
        manifest, speed = _validate(Bundle(folder=staging, manifest=manifest), model, options)
        manifest = replace(manifest, files=_records(staging))
        (staging / MANIFEST_FILE).write_text(manifest_text(manifest), encoding="utf-8")
        read_bundle(staging)
    return ExportReport(folder=output, manifest=manifest, speed=speed)


def _locate(options: ExportOptions, progress: Progress) -> tuple[Path, str, str]:
    """Return the checkpoint's folder, its source and its revision."""
    folder = Path(options.model).expanduser()
    if folder.exists():
        if options.revision:
            raise OptionsError(f"--revision is for the Hub, and {folder} is a folder")
        return folder, folder.resolve().name, ""
    if not is_hub_name(options.model):
        raise CheckpointError(
            f"there is no folder {folder}; give a checkpoint's folder or Hub name"
        )
    progress(f"downloading {options.model}")
    folder, commit = download_checkpoint(options.model, options.revision)
    return folder, options.model, commit


def _plan(checkpoint: Checkpoint, options: ExportOptions) -> Manifest:
    """Decide everything that needs no weights, as a manifest without files and figures."""
    layout = options.layout or ("fused" if checkpoint.architecture in ARCHITECTURES else "portable")
    dtype = options.dtype or _default_dtype(layout, options.device)
    if dtype == "fp16" and options.device == "cpu":
        raise OptionsError("fp16 is for graphics cards: add --device cuda, or take --dtype fp32")
    if dtype == "fp32" and options.device == "cuda" and layout == "fused":
        raise OptionsError("the fused graph needs fp16, int8 or int4 on --device cuda")
    is_half = dtype == "fp16" or options.device == "cuda"
    graph = FusedOptions.of(dtype, checkpoint.config, checkpoint.spec, is_half=is_half)
    if layout == "fused":
        check_fusable(checkpoint.architecture, checkpoint.config, checkpoint.spec, graph)
    else:
        check_portable(dtype)
    facts = read_facts(checkpoint.folder)
    return Manifest(
        name=options.name or checkpoint.source.rsplit("/", 1)[-1],
        spec=checkpoint.spec,
        layout=layout,
        dtype=dtype,
        cache_dtype="fp16" if graph.half_activations else "fp32",
        quantization=graph.quantization,
        tensors=graph.tensors,
        special_tokens=find_special_tokens(
            checkpoint.folder, checkpoint.config, facts, options.fim_order
        ),
        license=facts.license,
        source={
            "architecture": checkpoint.architecture,
            "checkpoint": checkpoint.source,
            "revision": checkpoint.revision,
            "card": facts.card,
        },
    )


def _default_dtype(layout: Layout, device: Device) -> Dtype:
    if device == "cuda":
        return "fp16"
    return "int8" if layout == "fused" else "fp32"


def _check_size(plan: Manifest, weights: Weights) -> None:
    n_weights = sum(tensor.numel() for tensor in weights.values())
    n_bytes = n_weights * BYTES_PER_WEIGHT[plan.dtype]
    if n_bytes > GRAPH_BYTES:
        raise UnsupportedModelError(
            f"{n_weights / 1e9:.1f} billion weights in {plan.dtype} make a graph of "
            f"{n_bytes / 1e9:.1f} GB, more than the {GRAPH_BYTES / 1e9:.0f} GB that one file can "
            "hold; take fewer bits or a smaller checkpoint"
        )


def _write_graph(
    folder: Path, checkpoint: Checkpoint, plan: Manifest, weights: Weights, model: Any
) -> TensorNames:
    if plan.layout == "portable":
        # Half precision would spoil the reference.
        exported = model if plan.dtype == "fp32" else load_model(checkpoint, weights)
        return write_portable(exported, plan.spec, plan.dtype, folder)
    import onnx

    arrays = {name: tensor.float().numpy() for name, tensor in weights.items()}
    is_half = plan.cache_dtype == "fp16"
    options = FusedOptions.of(plan.dtype, checkpoint.config, checkpoint.spec, is_half=is_half)
    graph = build_fused(
        checkpoint.architecture, checkpoint.config, checkpoint.spec, arrays, options
    )
    onnx.checker.check_model(graph)
    onnx.save(graph, folder / MODEL_FILE)
    return options.tensors


def _write_checkpoint(folder: Path, checkpoint: Checkpoint, weights: Weights) -> None:
    """Write what the PyTorch fallback loads and training goes on from, in its own precision."""
    from safetensors.torch import save_file

    folder.mkdir()
    config = json.dumps(checkpoint.config, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    if (checkpoint.folder / FACTS_FILE).exists():
        shutil.copyfile(checkpoint.folder / FACTS_FILE, folder / FACTS_FILE)
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it readable by its owner alone


def _validate(bundle: Bundle, model: Any, options: ExportOptions) -> tuple[Manifest, Speed]:
    """Return the manifest with its parity figures, and the speed."""
    from export.validate import check_graph, measure_parity
    from server.backends.contract import BackendOptions
    from server.backends.ort import OrtBackend

    manifest = bundle.manifest
    check_graph(bundle.model_path, manifest)
    device = "auto" if options.device == "cuda" else "cpu"
    backend = OrtBackend.load(bundle, BackendOptions(device=device))
    try:
        text = _sample_text(bundle.tokenizer_path, manifest.spec.n_vocab)
        parity = measure_parity(backend, model, text, manifest.dtype)
        return replace(manifest, parity=parity), _measure_speed(backend, text)
    finally:
        backend.close()


def _sample_text(tokenizer_path: Path, n_vocab: int) -> list[int]:
    """Tokens of a real program that every machine with Python has.

    Raises:
        CheckpointError: the tokenizer does not load, or has tokens that the network has not.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_path))  # type: ignore[no-untyped-call]
    except Exception as exc:  # the library raises nothing more precise
        raise CheckpointError(f"{TOKENIZER_FILE} does not load: {exc}") from exc
    if (n_tokens := tokenizer.get_vocab_size()) > n_vocab:
        raise CheckpointError(
            f"{TOKENIZER_FILE} has {n_tokens} tokens, {CONFIG_FILE} says {n_vocab}; "
            "they are of different checkpoints"
        )
    source = Path(argparse.__file__).read_text(encoding="utf-8")
    token_ids: list[int] = tokenizer.encode(source, add_special_tokens=False).ids
    return token_ids


def _measure_speed(backend: Backend, text: list[int]) -> Speed:
    """Prefill and decode a few times and keep the best: the machine is busy with other things."""
    n_decode = min(SPEED_TOKENS, backend.spec.n_ctx // 4)
    prompt = text[: min(SPEED_PROMPT, backend.spec.n_ctx - n_decode)]
    prefill_ms, decode_ms = [], []
    for _ in range(SPEED_ROUNDS):
        cache = backend.new_cache()
        started = time.perf_counter()
        backend.forward(prompt, cache, 1)
        prefilled = time.perf_counter()
        for token in text[:n_decode]:
            backend.forward([token], cache, 1)
        prefill_ms.append((prefilled - started) * 1e3)
        decode_ms.append((time.perf_counter() - prefilled) * 1e3 / n_decode)
    return Speed(
        provider=backend.info.provider,
        prompt_tokens=len(prompt),
        prefill_ms=min(prefill_ms),
        decode_ms=min(decode_ms),
    )


def _copy_memory(checkpoint: Path, staging: Path) -> None:
    """Copy what says how much the memory of the workspace counts, if the checkpoint has it."""
    path = checkpoint / MEMORY_FILE
    if not path.is_file():
        return
    try:
        coefficients = read_coefficients(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(
            f"{path} can't be read ({exc}); write it again with `python -m training calibrate`"
        ) from exc
    (staging / MEMORY_FILE).write_text(coefficients_text(coefficients), encoding="utf-8")


def _records(folder: Path) -> dict[str, FileRecord]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): record_file(path) for path in files}


@contextmanager
def _translated_disk_errors(output: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as exc:
        raise BundleError(
            f"{output} can't be written ({exc}); nothing was left behind: make room or choose "
            "another --output"
        ) from exc
