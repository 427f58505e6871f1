"""Writes any causal language model that optimum knows as an ONNX graph of standard operators.

Knows torch models and graphs: no checkpoint folders, no bundle. The past grows by concatenation,
and position ids and attention mask are inputs only where the architecture reads them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, helper

from server.bundle import MODEL_FILE
from server.errors import GraphError, OptionsError, UnsupportedModelError
from server.manifest import Dtype, ModelSpec, TensorNames

TASK = "text-generation-with-past"
PORTABLE_DTYPES: Final = ("fp32", "fp16")
ALL_TENSORS = TensorNames(position_ids="position_ids", attention_mask="attention_mask")
NOISY_LOGGERS = ("optimum", "transformers", "torch.onnx")


def check_portable(dtype: Dtype) -> None:
    """Raise OptionsError for a dtype that standard operators can't carry well."""
    if dtype not in PORTABLE_DTYPES:
        raise OptionsError(
            f"the portable layout has {' and '.join(PORTABLE_DTYPES)}, not {dtype}; quantized "
            "weights need --layout fused"
        )


def write_portable(model: Any, spec: ModelSpec, dtype: Dtype, folder: Path) -> TensorNames:
    """Export a torch model to `MODEL_FILE` in an empty folder.

    The model is transformers', fp32 and in evaluation mode; fp16 turns it into half precision for
    good. Returns the names of the graph's tensors.

    Raises:
        UnsupportedModelError: optimum can't export it.
        GraphError: the graph wants inputs that no backend of ours feeds.
    """
    from optimum.exporters.onnx import onnx_export_from_model  # type: ignore[attr-defined]

    if dtype == "fp16":
        model.half()
    # Optimum looks beside the model for a tokenizer to copy: an empty name would mean the Hub.
    model.config._name_or_path = str(folder)
    try:
        with _quiet():
            onnx_export_from_model(model, folder, task=TASK, do_validation=False, device="cpu")
    except Exception as exc:  # a foreign tracer may raise anything
        raise UnsupportedModelError(
            f"optimum can't export {model.config.model_type!r}: {type(exc).__name__}: {exc}"
        ) from exc
    for path in folder.iterdir():
        if path.name != MODEL_FILE:
            path.unlink()
    if dtype == "fp16":
        _return_full_precision_logits(folder / MODEL_FILE)
    return tensor_names(folder / MODEL_FILE, spec)


def tensor_names(path: Path, spec: ModelSpec) -> TensorNames:
    """Return the tensor names of an exported graph: those of `ALL_TENSORS` that it has.

    Raises:
        GraphError: it has an input that has no place in `TensorNames`.
    """
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {value.name for value in graph.input}
    names = replace(
        ALL_TENSORS,
        position_ids=ALL_TENSORS.position_ids if ALL_TENSORS.position_ids in inputs else "",
        attention_mask=ALL_TENSORS.attention_mask if ALL_TENSORS.attention_mask in inputs else "",
    )
    past = (names.past_key, names.past_value)
    fed = {names.input_ids, names.position_ids, names.attention_mask}
    fed |= {name.format(layer=layer) for name in past for layer in range(spec.n_layer)}
    if unknown := sorted(inputs - fed):
        raise GraphError(f"the graph wants {unknown[0]!r}, which no backend feeds")
    return names


def _return_full_precision_logits(path: Path) -> None:
    """Backends promise fp32 logits: a cast inside the graph spares one on each call outside."""
    model = onnx.load(path)
    logits = next(value for value in model.graph.output if value.name == ALL_TENSORS.logits)
    half = f"{logits.name}.half"
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == logits.name:
                node.output[i] = half
    cast = helper.make_node("Cast", [half], [logits.name], to=TensorProto.FLOAT)
    model.graph.node.append(cast)
    logits.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns by the dozen about what parity with PyTorch then proves or refutes."""
    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
