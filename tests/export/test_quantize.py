"""Quantization in blocks: what it costs, and that onnxruntime reads it as it was meant."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.quantize import choose_block_size, dequantize_matrix, quantize_matrix

RNG = np.random.default_rng(7)


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def plainly_rounded(weight: np.ndarray, block_size: int = 32) -> np.ndarray:
    """Four bits as the textbook has it: the block's peak becomes 7."""
    blocks = weight.reshape(weight.shape[0], -1, block_size)
    scale = np.abs(blocks).max(-1, keepdims=True) / 7
    return (np.clip(np.rint(blocks / scale), -8, 7) * scale).reshape(weight.shape)


def test_eight_bits_lose_less_than_a_hundredth() -> None:
    weight = RNG.standard_normal((300, 64)).astype(np.float32)

    assert relative_error(weight, dequantize_matrix(quantize_matrix(weight, 8))) < 0.01


def test_searched_scales_beat_plain_rounding_of_four_bits() -> None:
    weight = RNG.standard_normal((300, 64)).astype(np.float32)

    searched = relative_error(weight, dequantize_matrix(quantize_matrix(weight, 4)))

    assert searched < 0.9 * relative_error(weight, plainly_rounded(weight))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_on_the_grid_come_back_exactly(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    weight = RNG.integers(-top, top + 1, (5, 64)).astype(np.float32) / 4
    weight[:, ::32] = top / 4  # each block reaches its peak, so the scale is known

    np.testing.assert_allclose(dequantize_matrix(quantize_matrix(weight, bits)), weight, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_block_of_zeros_stays_zero(bits: int) -> None:
    weight = np.zeros((2, 64), np.float32)
    weight[1] = 1

    found = dequantize_matrix(quantize_matrix(weight, bits))

    assert not found[0].any()
    np.testing.assert_allclose(found[1], 1, rtol=1e-6)


def test_first_of_two_values_is_the_lower_half_of_a_byte() -> None:
    weight = np.full((1, 16), 7, np.float32)
    weight[0, 0] = -8

    packed = quantize_matrix(weight, 4, block_size=16).packed

    assert packed.shape == (1, 1, 8)
    assert packed[0, 0].tolist() == [0xF0, *[0xFF] * 7]


def test_rows_do_not_depend_on_how_many_are_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = RNG.standard_normal((70, 32)).astype(np.float32)
    whole = quantize_matrix(weight, 4)
    monkeypatch.setattr("export.quantize.ROWS_AT_ONCE", 32)

    pieces = quantize_matrix(weight, 4)

    np.testing.assert_array_equal(whole.packed, pieces.packed)
    np.testing.assert_array_equal(whole.scales, pieces.scales)


@pytest.mark.parametrize(
    ("bits", "widths", "block_size"),
    [
        (8, (768, 3072), 128),
        (8, (512, 2048), 128),
        (8, (256, 1024), 32),
        (8, (768, 3040), 32),
        (4, (768, 3072), 32),
    ],
)
def test_wide_matrices_in_eight_bits_have_fewer_scales(
    bits: int, widths: tuple[int, ...], block_size: int
) -> None:
    assert choose_block_size(bits, widths) == block_size


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (8, 32), (8, 128)])
def test_onnxruntime_multiplies_by_the_dequantized_weights(bits: int, block_size: int) -> None:
    weight = RNG.standard_normal((48, 256)).astype(np.float32)
    matrix = quantize_matrix(weight, bits, block_size)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "blocks", "scales"],
        ["y"],
        domain="com.microsoft",
        N=48,
        K=256,
        bits=bits,
        block_size=block_size,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 48])],
        [
            numpy_helper.from_array(matrix.packed, "blocks"),
            numpy_helper.from_array(matrix.scales, "scales"),
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = RNG.standard_normal((1, 256)).astype(np.float32)

    (found,) = session.run(None, {"x": x})

    np.testing.assert_allclose(found, x @ dequantize_matrix(matrix).T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "bits", "reason"),
    [
        (np.ones((2, 64), np.float32), 5, "bits is 5, must be 4 or 8"),
        (np.ones((2, 48), np.float32), 8, "48 inputs are not a multiple of the block size 32"),
        (np.full((2, 64), np.nan, np.float32), 8, "not finite"),
    ],
)
def test_what_cannot_be_quantized_is_refused(weight: np.ndarray, bits: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        quantize_matrix(weight, bits)
