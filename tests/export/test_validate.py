"""Validation: each way in which a graph can be wrong has an error of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.checkpoint import load_model, read_checkpoint, read_weights
from export.validate import check_graph, measure_parity
from server.backends.contract import BackendOptions
from server.backends.ort import OrtBackend
from server.bundle import Bundle, read_bundle
from server.errors import BackendFailedError, GraphError, ParityError
from server.manifest import Manifest

TEXT = [int(token) for token in np.random.default_rng(5).integers(0, 264, 300)]


@pytest.fixture
def manifest(fp32_bundle: Path) -> Manifest:
    return read_bundle(fp32_bundle).manifest


@pytest.fixture
def alter(fp32_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the bundle's graph with one change."""

    def write(change: Callable[[onnx.ModelProto], object]) -> Path:
        model = onnx.load(fp32_bundle / "model.onnx")
        change(model)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    read = read_checkpoint(checkpoint)
    return load_model(read, read_weights(read))


def measure(folder: Path, manifest: Manifest, reference: Any) -> dict[str, float]:
    backend = OrtBackend.load(
        Bundle(folder=folder, manifest=manifest), BackendOptions(device="cpu")
    )
    try:
        return measure_parity(backend, reference, TEXT, manifest.dtype)
    finally:
        backend.close()


def value(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    return next(v for v in (*model.graph.input, *model.graph.output) if v.name == name)


def test_exported_graph_passes(fp32_bundle: Path, manifest: Manifest, reference: Any) -> None:
    check_graph(fp32_bundle / "model.onnx", manifest)
    figures = measure(fp32_bundle, manifest, reference)

    assert set(figures) == {
        "prefill_relative_error",
        "decode_relative_error",
        "chunk_relative_error",
        "rewind_relative_error",
        "max_abs_diff",
        "equal_token_share",
        "loss",
        "loss_difference",
        "loss_tokens",
    }
    assert figures["equal_token_share"] == 1
    assert figures["loss_tokens"] == 95
    assert 5 < figures["loss"] < 12  # random weights on random text: near log(264) = 5.6, above it


def test_missing_tensor_is_named(alter: Callable[..., Path], manifest: Manifest) -> None:
    def rename(model: onnx.ModelProto) -> None:
        value(model, "logits").name = "scores"

    with pytest.raises(GraphError, match=r"lacks \['logits'\] and has \['scores'\]"):
        check_graph(alter(rename), manifest)


def test_fixed_axis_is_named(alter: Callable[..., Path], manifest: Manifest) -> None:
    def fix(model: onnx.ModelProto) -> None:
        value(model, "input_ids").type.tensor_type.shape.dim[1].dim_value = 1

    with pytest.raises(GraphError, match="axis T of input_ids is fixed to 1, must be free"):
        check_graph(alter(fix), manifest)


def test_wrong_number_of_axes_is_named(alter: Callable[..., Path], manifest: Manifest) -> None:
    def drop(model: onnx.ModelProto) -> None:
        value(model, "present.1.key").type.tensor_type.shape.dim.pop()

    with pytest.raises(GraphError, match=r"present\.1\.key has 3 axes, expected 4"):
        check_graph(alter(drop), manifest)


def test_wrong_size_is_named(alter: Callable[..., Path], manifest: Manifest) -> None:
    def widen(model: onnx.ModelProto) -> None:
        value(model, "past_key_values.0.key").type.tensor_type.shape.dim[3].dim_value = 17

    with pytest.raises(GraphError, match=r"axis 3 of past_key_values\.0\.key is 17, expected 16"):
        check_graph(alter(widen), manifest)


def test_wrong_element_type_is_named(alter: Callable[..., Path], manifest: Manifest) -> None:
    def halve(model: onnx.ModelProto) -> None:
        value(model, "logits").type.tensor_type.elem_type = onnx.TensorProto.FLOAT16

    with pytest.raises(GraphError, match="logits is FLOAT16, expected FLOAT"):
        check_graph(alter(halve), manifest)


def test_weights_in_another_file_are_refused(
    alter: Callable[..., Path], manifest: Manifest
) -> None:
    def move_out(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../secret")

    with pytest.raises(GraphError, match="keeps weights in another file"):
        check_graph(alter(move_out), manifest)


@pytest.mark.parametrize("name", ["h.1.attn.c_proj.bias", "ln_f.weight", "h.0.mlp.c_fc.weight"])
def test_slightly_wrong_weight_is_found(
    alter: Callable[..., Path], manifest: Manifest, reference: Any, name: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        wrong = numpy_helper.to_array(tensor) * np.float32(1.001)
        tensor.CopyFrom(numpy_helper.from_array(wrong, name))

    with pytest.raises(ParityError, match=r"prefill, relative error.*nothing was written") as info:
        measure(alter(change).parent, manifest, reference)
    assert info.value.max_abs_diff > info.value.atol == 1e-5


def test_values_that_are_not_finite_are_found(
    alter: Callable[..., Path], manifest: Manifest, reference: Any
) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "ln_f.bias")
        wrong = np.full(64, np.nan, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))

    with pytest.raises(BackendFailedError, match="logits that are not finite"):
        measure(alter(spoil).parent, manifest, reference)


def test_random_head_is_beyond_every_bound(
    alter: Callable[..., Path], manifest: Manifest, reference: Any
) -> None:
    """Even the widest bounds tell a broken network from a rounded one."""

    def shuffle(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "h.1.mlp.c_proj.weight")
        wrong = np.random.default_rng(0).permutation(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))

    with pytest.raises(ParityError):
        measure(alter(shuffle).parent, replace(manifest, dtype="int4"), reference)
