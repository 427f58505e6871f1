"""Reads a checkpoint folder: config.json, safetensors weights, tokenizer.json.

Does not know ONNX or bundles. A checkpoint is untrusted input: no pickles, no code, a config made
only of fields that transformers' own class for the architecture declares by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.backends.pytorch_config import (
    COMPUTED_TENSORS,
    declared_fields,
    make_config,
)
from server.bundle import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from server.errors import BundleError, CheckpointError, UnsupportedModelError, nearest_name
from server.manifest import ModelSpec

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    Weights = dict[str, torch.Tensor]

INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
JSON_BYTES = 64_000_000  # above any tokenizer or index known to us; a larger one is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder whose config was read and found to be of a known architecture."""

    folder: Path
    architecture: str
    """transformers' `model_type`: gpt2, gpt_bigcode, llama, ..."""
    config: Mapping[str, Any]
    """The declared fields alone; those that the file leaves out are at transformers' defaults."""
    spec: ModelSpec
    source: str
    """The Hub id, or the folder's name: a path would tell where the exporter's home is."""
    revision: str = ""


def read_checkpoint(folder: Path, source: str = "", revision: str = "") -> Checkpoint:
    """Read the config of a checkpoint and see that weights and tokenizer are there.

    Raises:
        CheckpointError: the folder is no checkpoint, or a file is malformed or a pickle.
        UnsupportedModelError: transformers has no causal language model of this architecture.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give a checkpoint's folder or a Hub name")
    raw = read_json(folder / CONFIG_FILE)
    architecture = raw.get("model_type")
    if not isinstance(architecture, str):
        raise CheckpointError(f"{folder / CONFIG_FILE} has no model_type; is this a checkpoint?")
    weight_files(folder)
    if not (folder / TOKENIZER_FILE).is_file():
        raise CheckpointError(
            f"{folder / TOKENIZER_FILE} is missing; save it with "
            "`AutoTokenizer.from_pretrained(...).save_pretrained(...)`"
        )
    if raw.get("quantization_config"):
        raise UnsupportedModelError(
            f"{folder / CONFIG_FILE} is of quantized weights; export the original checkpoint"
        )
    config_class = _config_class(architecture)
    try:
        config = make_config(config_class, raw)
    except ValueError as exc:
        raise CheckpointError(f"{folder / CONFIG_FILE} {exc}") from exc
    return Checkpoint(
        folder=folder,
        architecture=architecture,
        config=_declared_values(config) | {"model_type": architecture},
        spec=spec_of(config),
        source=source or folder.resolve().name,
        revision=revision,
    )


def transformers_config(checkpoint: Checkpoint) -> PretrainedConfig:
    """Return transformers' config object, made from the checkpoint's declared fields."""
    config_class = _config_class(checkpoint.architecture)
    fields = {name: value for name, value in checkpoint.config.items() if name != "model_type"}
    config: PretrainedConfig = config_class(**fields)
    return config


def spec_of(config: PretrainedConfig) -> ModelSpec:
    """Map transformers' names, which differ by architecture, to GPT-2's own.

    Raises:
        UnsupportedModelError: a size is missing, as in a model that is no plain decoder.
    """
    try:
        n_head = int(config.num_attention_heads)
        n_embd = int(config.hidden_size)
        head_dim = getattr(config, "head_dim", None)
        return ModelSpec(
            n_layer=int(config.num_hidden_layers),
            n_head=n_head,
            n_kv_head=int(getattr(config, "num_key_value_heads", None) or n_head),
            n_embd=n_embd,
            n_ctx=int(config.max_position_embeddings),
            n_vocab=int(config.vocab_size),
            head_dim=int(head_dim) if head_dim and head_dim * n_head != n_embd else None,
        )
    except (AttributeError, TypeError, ValueError, ZeroDivisionError, BundleError) as exc:
        raise UnsupportedModelError(
            f"the config of {config.model_type!r} has no sizes of a decoder: {exc}"
        ) from exc


def read_weights(checkpoint: Checkpoint) -> Weights:
    """Read all weights under transformers' names, each one's name, shape and values checked.

    A tied head is left out; buffers that transformers computes are dropped.

    Raises:
        CheckpointError: a file is truncated, or a tensor is missing, unknown, of another shape or
        not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = transformers_config(checkpoint)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    shapes = {name: t.shape for name, t in model.state_dict().items() if name not in tied}
    found = _read_tensors(weight_files(checkpoint.folder))
    prefix = f"{model.base_model_prefix}."
    if not any(name.startswith(prefix) for name in found):  # saved from the network without a head
        known = tied | set(shapes)
        found = {name if name in known else prefix + name: t for name, t in found.items()}
    _check_tensors(found, shapes, tied, checkpoint)
    return {name: found[name] for name in shapes}


def load_model(checkpoint: Checkpoint, weights: Weights) -> Any:
    """Return transformers' fp32 model in evaluation mode, the reference for every comparison."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        transformers_config(checkpoint), torch_dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        model.load_state_dict({k: w.float() for k, w in weights.items()}, strict=False)
    model.tie_weights()
    return model.eval()


def _check_tensors(
    found: Weights, shapes: Mapping[str, torch.Size], tied: set[str], checkpoint: Checkpoint
) -> None:
    unknown = [
        name
        for name in found
        if name not in shapes and name not in tied and not COMPUTED_TENSORS.search(name)
    ]
    missing = [name for name in shapes if name not in found]
    if missing or unknown:
        raise CheckpointError(
            f"{checkpoint.folder} does not hold the tensors of a {checkpoint.architecture}: "
            f"{len(missing)} missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}"
        )
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"tensor {name} of {checkpoint.folder} has shape {list(found[name].shape)}, "
                f"its config.json says {list(shape)}"
            )
        if not found[name].isfinite().all():
            raise CheckpointError(
                f"tensor {name} of {checkpoint.folder} has values that are not finite; "
                "take an earlier checkpoint of that training"
            )


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint.

    Raises:
        CheckpointError: there are none; if there are pickles instead, the message says so.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        weight_map = read_json(folder / INDEX_FILE).get("weight_map")
        names = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise CheckpointError(f"{folder / INDEX_FILE} names {name!r}, no file beside it")
        if names:
            return [folder / name for name in names]
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is read; convert it "
            "to model.safetensors (`save_pretrained(..., safe_serialization=True)`) in a place "
            "that you trust it in"
        )
    raise CheckpointError(
        f"{folder / WEIGHTS_FILE} is missing, so {folder} is no checkpoint; expected "
        f"{CONFIG_FILE}, {WEIGHTS_FILE} and {TOKENIZER_FILE}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: it is missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > JSON_BYTES:
            raise CheckpointError(f"{path} is larger than {JSON_BYTES} bytes, refused")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path} is missing, so {path.parent} is no checkpoint") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not readable JSON ({exc})") from exc
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds {type(raw).__name__}, expected an object")
    return raw


def _config_class(architecture: str) -> Any:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    if architecture not in CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"architecture {architecture!r} can't be exported"
            f"{nearest_name(architecture, exportable_architectures())}"
        )
    config_class = CONFIG_MAPPING[architecture]
    if config_class not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is no causal language model"
            f"{nearest_name(architecture, exportable_architectures())}"
        )
    return config_class


def exportable_architectures() -> list[str]:
    """Return every decoder that optimum can export with a KV cache, sorted."""
    import optimum.exporters.onnx.model_configs  # noqa: F401 - registers what it can export
    from optimum.exporters.tasks import TasksManager
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    known = {
        name
        for name, config in CONFIG_MAPPING.items()
        if config in MODEL_FOR_CAUSAL_LM_MAPPING
        and "is_encoder_decoder" not in declared_fields(config)
    }
    supported = TasksManager.get_supported_model_type_for_task("text-generation-with-past", "onnx")
    return sorted(known & {name.replace("-", "_") for name in supported})


def _declared_values(config: PretrainedConfig) -> dict[str, Any]:
    values = config.to_dict()
    return {name: values[name] for name in declared_fields(type(config)) if name in values}


def _read_tensors(paths: list[Path]) -> Weights:
    from safetensors import safe_open

    tensors: Weights = {}
    for path in paths:
        with _translated(path), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                tensors[name] = file.get_tensor(name)
    return tensors


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as exc:
        raise CheckpointError(
            f"{path} can't be read ({exc}): it is truncated or altered; copy it again"
        ) from exc
