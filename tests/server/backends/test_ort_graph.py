"""A graph from a stranger: what it may not ask for, tried as an attacker would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from server.backends.ort_graph import MAX_DEPTH, check_graph
from server.bundle import EMBEDDED_FOLDER, MODEL_FILE
from server.errors import BundleError

Spoil = Callable[[onnx.ModelProto], None]


def identity(domain: str = "", operator: str = "Identity") -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["y"], domain=domain)


def graph_of(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "g", [x], [y])


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(graph_of(*nodes))


def checked(model: onnx.ModelProto, folder: Path) -> None:
    path = folder / "graph"
    path.write_bytes(model.SerializeToString())
    check_graph(path)


def nested(depth: int) -> onnx.NodeProto:
    node = identity("evil")
    for _ in range(depth):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph_of(node))
    return node


def test_what_is_exported_passes(tmp_path: Path) -> None:
    check_graph(EMBEDDED_FOLDER / MODEL_FILE)
    checked(model_of(identity(), identity("com.microsoft", "FastGelu")), tmp_path)


def test_operators_of_a_library_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="operators of 'evil'"):
        checked(model_of(identity("evil")), tmp_path)


def test_operators_of_a_library_are_found_inside_a_branch(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="operators of 'evil'"):
        checked(model_of(nested(3)), tmp_path)


def test_a_library_that_is_only_announced_is_refused(tmp_path: Path) -> None:
    model = model_of(identity())
    model.opset_import.add(domain="evil", version=1)
    with pytest.raises(BundleError, match="operators of 'evil'"):
        checked(model, tmp_path)


@pytest.mark.parametrize("operator", ["EPContext", "PythonOp"])
def test_operators_that_open_files_or_call_python_are_refused(
    tmp_path: Path, operator: str
) -> None:
    with pytest.raises(BundleError, match=f"the operator {operator}"):
        checked(model_of(identity("com.microsoft", operator)), tmp_path)


def test_graphs_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nested deeper"):
        checked(model_of(nested(MAX_DEPTH + 1)), tmp_path)


def test_functions_are_refused(tmp_path: Path) -> None:
    """Each may call the one before it twice: a few lines expand to more than any memory."""
    model = model_of(identity())
    model.functions.add(name="f")
    with pytest.raises(BundleError, match="defines functions"):
        checked(model, tmp_path)


def test_two_graphs_hide_nothing(tmp_path: Path) -> None:
    """Protobuf merges a field that comes twice: the second graph's nodes run as well."""
    path = tmp_path / "graph"
    both = model_of(identity()).SerializeToString() + model_of(identity("evil")).SerializeToString()
    path.write_bytes(both)
    with pytest.raises(BundleError, match="operators of 'evil'"):
        check_graph(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_is_anything_but_an_error_of_ours(data: st.DataObject, tmp_path: Path) -> None:
    whole = bytearray(model_of(identity(), nested(2)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "graph"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        check_graph(path)
    except BundleError as exc:
        assert "export the model again" in str(exc)  # noqa: PT017 - passing is allowed, too
