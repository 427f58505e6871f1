"""Portable exports: any decoder that optimum knows, with standard operators."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from export.checkpoint import load_model, read_checkpoint, read_weights
from export.portable import check_portable, tensor_names, write_portable
from server.errors import GraphError, OptionsError, UnsupportedModelError
from server.manifest import Dtype, TensorNames

TOKENS = np.random.default_rng(3).integers(0, 264, (1, 90), dtype=np.int64)


class Runner:
    """Feeds a portable graph directly; holds the past between calls."""

    def __init__(self, path: Path, names: TensorNames) -> None:
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = names
        self.past = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values")
        }

    def run(self, token_ids: np.ndarray) -> np.ndarray:
        n_past = next(iter(self.past.values())).shape[2]
        n_total = n_past + token_ids.shape[1]
        feed = self.past | {self.names.input_ids: token_ids}
        if self.names.position_ids:
            feed[self.names.position_ids] = np.arange(n_past, n_total, dtype=np.int64)[None]
        if self.names.attention_mask:
            feed[self.names.attention_mask] = np.ones((1, n_total), np.int64)
        outputs = [output.name for output in self.session.get_outputs()]
        by_name = dict(zip(outputs, self.session.run(None, feed), strict=True))
        self.past = {
            name: by_name[name.replace("past_key_values", "present")] for name in self.past
        }
        logits: np.ndarray = by_name[self.names.logits]
        return logits

    def truncate(self, n_tokens: int) -> None:
        self.past = {name: past[:, :, :n_tokens] for name, past in self.past.items()}


def export(folder: Path, output: Path, dtype: Dtype = "fp32") -> tuple[TensorNames, np.ndarray]:
    """Export and return the names and PyTorch's logits of `TOKENS`."""
    output.mkdir()
    read = read_checkpoint(folder)
    model = load_model(read, read_weights(read))
    with torch.inference_mode():
        wanted = model(torch.tensor(TOKENS)).logits.numpy()
    return write_portable(model, read.spec, dtype, output), wanted


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_bigcode", "gpt_neox", "llama", "qwen2"])
def test_graph_agrees_with_pytorch(
    make_checkpoint: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    names, wanted = export(make_checkpoint(architecture), tmp_path / "graph")
    runner = Runner(tmp_path / "graph/model.onnx", names)

    steps = {(0, 50): runner.run(TOKENS[:, :50])}
    steps[50, 51] = runner.run(TOKENS[:, 50:51])
    steps[51, 60] = runner.run(TOKENS[:, 51:60])
    runner.run(TOKENS[:, :7])  # a wrong turn
    runner.truncate(45)
    steps[45, 90] = runner.run(TOKENS[:, 45:])

    for (start, end), found in steps.items():
        error = np.linalg.norm(found - wanted[:, start:end])
        assert error / np.linalg.norm(wanted[:, start:end]) < 1e-5


def test_only_the_graph_is_left_and_tied_weights_are_written_once(
    checkpoint: Path, tmp_path: Path
) -> None:
    export(checkpoint, tmp_path / "graph")

    assert [path.name for path in (tmp_path / "graph").iterdir()] == ["model.onnx"]
    tensors = onnx.load(tmp_path / "graph/model.onnx").graph.initializer
    assert len([t for t in tensors if sorted(t.dims) == [64, 264]]) == 1


def test_half_precision_still_returns_full_precision_logits(
    checkpoint: Path, tmp_path: Path
) -> None:
    export(checkpoint, tmp_path / "graph", "fp16")
    graph = onnx.load(tmp_path / "graph/model.onnx").graph

    border = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert border["logits"] == onnx.TensorProto.FLOAT
    assert border["past_key_values.0.key"] == border["present.1.value"] == onnx.TensorProto.FLOAT16
    wte = next(t for t in graph.initializer if sorted(t.dims) == [64, 264])
    assert wte.data_type == onnx.TensorProto.FLOAT16


def test_input_that_no_backend_feeds_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "graph")
    path = tmp_path / "graph/model.onnx"
    model = onnx.load(path)
    extra = onnx.helper.make_tensor_value_info("token_type_ids", onnx.TensorProto.INT64, ["B"])
    model.graph.input.append(extra)
    onnx.save(model, path)

    with pytest.raises(GraphError, match="wants 'token_type_ids', which no backend feeds"):
        tensor_names(path, read_checkpoint(checkpoint).spec)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_quantized_weights_point_to_fused(dtype: Dtype) -> None:
    with pytest.raises(OptionsError, match=f"not {dtype}; quantized weights need --layout fused"):
        check_portable(dtype)


def test_tracer_that_raises_is_an_unsupported_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("optimum.exporters.onnx.onnx_export_from_model", fail)

    with pytest.raises(UnsupportedModelError, match="can't export 'gpt2': RuntimeError: no such"):
        export(checkpoint, tmp_path / "graph")


def test_names_are_those_of_the_inputs_that_the_graph_has(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    gpt2, _ = export(make_checkpoint("gpt2"), tmp_path / "gpt2")
    llama, _ = export(make_checkpoint("llama"), tmp_path / "llama")

    assert llama == replace(llama, attention_mask="attention_mask", position_ids="position_ids")
    assert gpt2.past_key.format(layer=1) == "past_key_values.1.key"
