"""From a checkpoint to a bundle: build the graph, write the folder, hold it to PyTorch.

Knows the order of the steps; each step is a module of its own. Prints nothing: progress goes to a
callable.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from export.checkpoint import Checkpoint, read_checkpoint, read_weights
from export.fused import TENSORS, FusedOptions, build_fused, check_fusable
from export.special_tokens import find_special_tokens, read_facts
from export.staging import check_target, staged_folder
from server.bundle import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Dtype,
    FimOrder,
    Layout,
    Manifest,
    manifest_text,
    models_folder,
    record_file,
)

if TYPE_CHECKING:
    from export.checkpoint import Weights

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    checkpoint: Path
    output: Path | None = None
    """The bundle's folder; None: the user's models folder, under the bundle's name."""
    layout: Layout = "fused"
    dtype: Dtype = "int8"
    device: Literal["cpu", "cuda"] = "cpu"
    name: str = ""
    """Empty: the checkpoint's name."""
    source: str = ""
    revision: str = ""
    fim_order: FimOrder | None = None
    with_checkpoint: bool = True


def export_bundle(options: ExportOptions, progress: Progress) -> Manifest:
    """Write a bundle and return its manifest.

    Raises:
        CompletionServerError: the checkpoint is refused, or its graph disagrees with PyTorch; what
        was in the output folder before is then still there.
    """
    progress("reading the checkpoint")
    checkpoint = read_checkpoint(options.checkpoint, options.source, options.revision)
    name = options.name or checkpoint.source.rsplit("/", 1)[-1]
    output = options.output or models_folder() / name
    check_target(output)
    graph_options = FusedOptions(dtype=options.dtype, half_activations=options.device == "cuda")
    check_fusable(checkpoint.architecture, checkpoint.config, checkpoint.spec, graph_options)
    facts = read_facts(checkpoint.folder)
    manifest = Manifest(
        name=name,
        spec=checkpoint.spec,
        layout=options.layout,
        dtype=options.dtype,
        cache_dtype="fp16" if graph_options.half_activations else "fp32",
        quantization=graph_options.quantization,
        tensors=TENSORS,
        special_tokens=find_special_tokens(
            checkpoint.folder, checkpoint.config, facts, options.fim_order
        ),
        license=facts.license,
        source={
            "architecture": checkpoint.architecture,
            "checkpoint": checkpoint.source,
            "revision": checkpoint.revision,
        },
    )
    weights = read_weights(checkpoint)
    with staged_folder(output) as folder:
        progress("writing the graph")
        _write_fused(folder, checkpoint, weights, graph_options)
        shutil.copyfile(checkpoint.folder / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        if options.with_checkpoint:
            progress("copying the checkpoint")
            _write_checkpoint(folder / CHECKPOINT_FOLDER, checkpoint.config, weights)
        manifest = replace(manifest, files=_records(folder))
        (folder / MANIFEST_FILE).write_text(manifest_text(manifest), encoding="utf-8")
    return manifest


def _write_fused(
    folder: Path, checkpoint: Checkpoint, weights: Weights, options: FusedOptions
) -> None:
    import onnx

    arrays = {name: tensor.float().numpy() for name, tensor in weights.items()}
    graph = build_fused(
        checkpoint.architecture, checkpoint.config, checkpoint.spec, arrays, options
    )
    onnx.save(graph, folder / MODEL_FILE)


def _write_checkpoint(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _records(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): record_file(path) for path in files}
