"""Weight-only quantization in symmetric blocks, packed as onnxruntime's `MatMulNBits` reads it.

Knows arrays only: no checkpoint, no graph.

Shape letters: K inputs, N outputs of a linear layer; G = K / block_size blocks per output.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 32  # weights per scale, as in llama.cpp's Q8_0 and Q4_0
# Of wide matrices in 8 bits. Measured, see docs/performance.md: GPT-2's decode in 0.84 of the time,
# with no more bits per byte; for the embedded model, 256 wide, it is 0.98.
WIDE_BLOCK_SIZE = 128
WIDE = 512  # Between the two that were measured. Guessed.
ROWS_AT_ONCE = (
    128  # the search works in the processor's cache; measured: 4096 takes 1.6 times as long
)

# A 4-bit block's scales to try: its peak through each of these; negative ones use the value -8.
# Measured on trained weights: ten more candidates lower the squared error by 1 %.
SCALE_DIVISORS = (-8.5, -7.5, 6.5, 7.5)

Array = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedMatrix:
    """A linear layer's weights in `bits`: weight = (packed - 2 ** (bits - 1)) * scale."""

    packed: Packed
    """[N, G, block_size * bits / 8]; of two 4-bit values in a byte the first is the lower."""
    scales: Array
    """[N, G]."""
    bits: int
    block_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the matrix that it stands for."""
        n_outputs, n_blocks = self.scales.shape
        return n_outputs, n_blocks * self.block_size


def choose_block_size(bits: int, widths: Collection[int]) -> int:
    """Return how many weights share a scale on a CPU.

    Args:
        bits: 4 or 8.
        widths: K of all matrices.
    """
    are_wide = all(width >= WIDE and width % WIDE_BLOCK_SIZE == 0 for width in widths)
    return WIDE_BLOCK_SIZE if bits == 8 and are_wide else BLOCK_SIZE


def quantize_matrix(weight: Array, bits: int, block_size: int = BLOCK_SIZE) -> QuantizedMatrix:
    """Quantize a matrix whose rows are outputs.

    8 bits round to the nearest value; 4 bits search each block's scale for the smallest squared
    error, as plain rounding of 4 bits costs too much accuracy.

    Args:
        weight: [N, K], finite.
        bits: 4 or 8.
        block_size: must divide K.

    Raises:
        ValueError: `bits` or `block_size` is out of range, or a weight is not finite.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits}, must be 4 or 8")
    n_outputs, n_inputs = weight.shape
    if n_inputs % block_size:
        raise ValueError(f"{n_inputs} inputs are not a multiple of the block size {block_size}")
    if not np.isfinite(weight).all():
        raise ValueError("a weight is not finite")
    packed = np.empty((n_outputs, n_inputs // block_size, block_size * bits // 8), np.uint8)
    scales = np.empty((n_outputs, n_inputs // block_size), np.float32)
    for start in range(0, n_outputs, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        blocks = weight[rows].astype(np.float32).reshape(-1, n_inputs // block_size, block_size)
        values, scales[rows] = _round_blocks(blocks) if bits == 8 else _search_blocks(blocks)
        packed[rows] = _pack(values, bits)
    return QuantizedMatrix(packed=packed, scales=scales, bits=bits, block_size=block_size)


def dequantize_matrix(matrix: QuantizedMatrix) -> Array:
    """Return the weights that a quantized matrix stands for, [N, K]."""
    values = matrix.packed
    if matrix.bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
    centered = values.astype(np.float32) - np.float32(2 ** (matrix.bits - 1))
    return (centered * matrix.scales[..., None]).reshape(matrix.shape)


def _round_blocks(blocks: Array) -> tuple[Packed, Array]:
    scales = np.maximum(np.abs(blocks).max(-1) / np.float32(127), np.float32(1e-9))  # [N, G]
    values = np.rint(blocks / scales[..., None]) + 128
    return np.clip(values, 1, 255).astype(np.uint8), scales


def _search_blocks(blocks: Array) -> tuple[Packed, Array]:
    """Try scales around the block's peak, of either sign since -8 has no positive partner; refit
    each by least squares to the rounding that it gives; keep the best.

    Source: the search follows `make_qx_quants` of ggml, https://github.com/ggml-org/llama.cpp.
    """
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], axis=-1)  # [N, G, 1]
    peaks = np.where(np.abs(peaks) < 1e-9, np.float32(1e-9), peaks)
    best_error = np.full(peaks.shape, np.inf, np.float32)
    best_scale = np.ones_like(peaks)
    for divisor in SCALE_DIVISORS:
        scale = peaks / np.float32(divisor)
        for _ in range(2):
            values = np.clip(np.rint(blocks / scale), -8, 7)
            norm = (values * values).sum(-1, keepdims=True)
            fitted = (blocks * values).sum(-1, keepdims=True) / np.maximum(norm, 1)
            scale = np.where(np.abs(fitted) < 1e-12, scale, fitted)
        values = np.clip(np.rint(blocks / scale), -8, 7)
        error = np.square(blocks - values * scale).sum(-1, keepdims=True)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
    values = np.clip(np.rint(blocks / best_scale), -8, 7) + 8
    return values.astype(np.uint8), best_scale[..., 0].astype(np.float32)


def _pack(values: Packed, bits: int) -> Packed:
    if bits == 8:
        return values
    packed: Packed = np.bitwise_or(values[..., 0::2], values[..., 1::2] << 4, dtype=np.uint8)
    return packed
