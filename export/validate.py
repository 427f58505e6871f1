"""Holds an exported graph to PyTorch, in steps that each have an error of their own.

Tensor names, dynamic axes, shapes; then values through the very backend that will serve; then
greedy tokens with a growing cache, and the loss on real text. Does not know how a graph is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from server.backends.contract import Backend
from server.errors import GraphError, ParityError
from server.manifest import Dtype, Manifest

N_GREEDY = 32
N_PROMPT = 64
N_VALUES = 128  # tokens of the value steps; enough for the cache to grow, shrink and grow again
N_CHUNK = 9
N_LOSS = 512
Values = npt.NDArray[np.float32]
Axes = list[str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an export may differ from PyTorch by."""

    relative_error: float
    """Norm of the logits' difference by the norm of PyTorch's logits."""
    equal_share: float
    """Least share of greedy tokens that are PyTorch's own."""
    loss_difference: float
    """Most that the mean loss on text may rise, in nats per token."""


# Two to seven times what random and trained models showed; a wrong weight or position gives a
# relative error near 1.
BOUNDS: Mapping[Dtype, Bounds] = {
    "fp32": Bounds(relative_error=1e-5, equal_share=1.0, loss_difference=1e-4),
    "fp16": Bounds(relative_error=0.01, equal_share=0.9, loss_difference=0.01),
    "int8": Bounds(relative_error=0.15, equal_share=0.75, loss_difference=0.05),
    "int4": Bounds(relative_error=0.6, equal_share=0.4, loss_difference=0.4),
}


def check_graph(path: Path, manifest: Manifest) -> None:
    """See that a graph has the border that its manifest describes.

    Raises:
        GraphError: data lies outside the file, or a tensor's name, axes, sizes or type differ.
    """
    graph = onnx.load(path, load_external_data=False).graph
    if any(t.data_location == TensorProto.EXTERNAL for t in graph.initializer):
        raise GraphError(f"{path.name} keeps weights in another file; a bundle has one file")
    expected = _expected_border(manifest)
    found = {value.name: value for value in (*graph.input, *graph.output)}
    _check_names(expected, set(found))
    for name, (kind, axes) in expected.items():
        _check_axes(name, axes, found[name])
        _check_sizes(name, kind, axes, found[name])


def measure_parity(
    backend: Backend, model: Any, token_ids: list[int], dtype: Dtype
) -> dict[str, float]:
    """Compare a backend with transformers' model and return the figures.

    The model is the fp32 reference in evaluation mode; the token ids are real text, of which more
    makes the loss steadier.

    Raises:
        ParityError: a figure is out of `BOUNDS`.
    """
    bounds = BOUNDS[dtype]
    text = token_ids[: min(N_LOSS, backend.spec.n_ctx)]
    reference = _reference_logits(model, text)  # [S, V]
    figures = dict(_compare_values(backend, reference, text, bounds))
    share = _equal_share(backend, model, text)
    figures["equal_token_share"] = share
    if share < bounds.equal_share:
        raise ParityError("greedy tokens, share that differs", 1 - share, 1 - bounds.equal_share)
    rise = _loss(backend.forward(text, backend.new_cache(), len(text)), text)
    loss = _loss(reference, text)
    figures |= {"loss": loss, "loss_difference": rise - loss, "loss_tokens": len(text) - 1}
    if rise - loss > bounds.loss_difference:
        raise ParityError("loss on text", rise - loss, bounds.loss_difference)
    return figures


def _expected_border(manifest: Manifest) -> dict[str, tuple[int, Axes]]:
    """Each tensor's element type and axes; a string is an axis of free size."""
    spec, names = manifest.spec, manifest.tensors
    cache_type = TensorProto.FLOAT16 if manifest.cache_dtype == "fp16" else TensorProto.FLOAT
    border: dict[str, tuple[int, Axes]] = {
        names.input_ids: (TensorProto.INT64, ["B", "T"]),
        names.position_ids: (TensorProto.INT64, ["B", "T"]),
        names.attention_mask: (TensorProto.INT64, ["B", "S"]),
        names.seqlens_k: (TensorProto.INT32, ["B"]),
        names.total_len: (TensorProto.INT32, [1]),
        names.logits_from: (TensorProto.INT64, [1]),
        names.logits: (TensorProto.FLOAT, ["B", "T", spec.n_vocab]),
        names.log_probs: (TensorProto.FLOAT, ["B", "T", spec.n_vocab]),
        names.best_ids: (TensorProto.INT64, ["B", "T", 1]),
        names.best_log_probs: (TensorProto.FLOAT, ["B", "T", 1]),
    }
    caches = (names.past_key, names.past_value, names.present_key, names.present_value)
    for layer in range(spec.n_layer):
        for name in caches:
            axes: Axes = ["B", spec.n_kv_head, "S", spec.head_width]
            border[name.format(layer=layer)] = (cache_type, axes)
    border.pop("", None)
    return border


def _check_names(expected: Mapping[str, object], found: set[str]) -> None:
    missing, unknown = sorted(set(expected) - found), sorted(found - set(expected))
    if missing or unknown:
        raise GraphError(
            f"tensor names: the graph lacks {missing[:3]} and has {unknown[:3]} beyond the manifest"
        )


def _check_axes(name: str, axes: Axes, value: onnx.ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(axes):
        raise GraphError(f"{name} has {len(dims)} axes, expected {len(axes)}")
    for axis, dim in zip(axes, dims, strict=True):
        if isinstance(axis, str) and dim.HasField("dim_value"):
            raise GraphError(f"axis {axis} of {name} is fixed to {dim.dim_value}, must be free")


def _check_sizes(name: str, kind: int, axes: Axes, value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    for i, (axis, dim) in enumerate(zip(axes, tensor.shape.dim, strict=True)):
        if isinstance(axis, int) and dim.HasField("dim_value") and dim.dim_value != axis:
            raise GraphError(f"axis {i} of {name} is {dim.dim_value}, expected {axis}")
    if tensor.elem_type != kind:
        found, wanted = TensorProto.DataType.Name(tensor.elem_type), TensorProto.DataType.Name(kind)
        raise GraphError(f"{name} is {found}, expected {wanted}")


def _reference_logits(model: Any, token_ids: list[int]) -> Values:
    import torch

    with torch.inference_mode():
        logits: Values = model(torch.tensor([token_ids]), use_cache=False).logits[0].numpy()
    return logits


def _compare_values(
    backend: Backend, reference: Values, text: list[int], bounds: Bounds
) -> Iterator[tuple[str, float]]:
    """Prefill, one token, several after a past, and a cache that was truncated and continued."""
    n = min(N_VALUES, len(text))
    half = n // 2
    cache = backend.new_cache()
    worst = 0.0
    steps = {
        "prefill": (0, half),
        "decode": (half, half + 1),
        "chunk": (half + 1, half + 1 + N_CHUNK),
        "rewind": (half - N_CHUNK, n),
    }
    for step, (start, end) in steps.items():
        if step == "rewind":
            backend.forward(text[:N_CHUNK], cache, 1)  # a wrong turn, to be forgotten
            cache.truncate(start)
        wanted = reference[start:end]
        difference = backend.forward(text[start:end], cache, end - start) - wanted
        error = float(np.linalg.norm(difference) / np.linalg.norm(wanted))
        worst = max(worst, float(np.abs(difference).max()))
        if not error <= bounds.relative_error:  # not > : NaN must not pass
            raise ParityError(f"{step}, relative error", error, bounds.relative_error)
        yield f"{step}_relative_error", error
    yield "max_abs_diff", worst


def _equal_share(backend: Backend, model: Any, text: list[int]) -> float:
    """Let PyTorch generate greedily and count at how many steps the backend chooses the same.

    The backend follows PyTorch's tokens, so that one difference is counted once. A share of 1 means
    that both would generate the same text.
    """
    import torch

    n_steps = min(N_GREEDY, backend.spec.n_ctx // 2)
    prompt = text[: min(N_PROMPT, backend.spec.n_ctx - n_steps)]
    cache = backend.new_cache()
    logits = backend.forward(prompt, cache, 1)
    past, fed, n_equal = None, prompt, 0
    for step in range(n_steps):
        with torch.inference_mode():
            output = model(torch.tensor([fed]), past_key_values=past, use_cache=True)
        past, fed = output.past_key_values, [int(output.logits[0, -1].argmax())]
        n_equal += int(logits[-1].argmax()) == fed[0]
        if step < n_steps - 1:
            logits = backend.forward(fed, cache, 1)
    return n_equal / n_steps


def _loss(logits: Values, token_ids: list[int]) -> float:
    """Mean negative log-probability of each token after the first, in nats."""
    targets = np.asarray(token_ids[1:])
    shifted = logits[:-1].astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    return float(np.mean(np.log(np.exp(shifted).sum(-1)) - chosen))
