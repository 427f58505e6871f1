"""Which networks have a fused graph, and how its numbers are stored: all that needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from export.quantize import BLOCK_SIZE, choose_block_size
from server.errors import UnsupportedModelError
from server.manifest import Dtype, ModelSpec, Quantization, TensorNames

BITS = {"int8": 8, "int4": 4}
# Measured on the embedded model: 4 bits here too cost 0.085 nats per token instead of 0.053.
HEAD_BITS = 8
ARCHITECTURES = ("gpt2", "gpt_bigcode")
TENSORS = TensorNames(
    position_ids="position_ids",
    seqlens_k="seqlens_k",
    total_len="total_len",
    logits_from="logits_from",
    log_probs="log_probs",
)
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedOptions:
    """How the graph's numbers are stored."""

    dtype: Dtype
    half_activations: bool = False
    """Activations, scales and KV cache in fp16, as CUDA's attention kernels want."""
    block_size: int = BLOCK_SIZE

    @classmethod
    def of(
        cls, dtype: Dtype, config: Mapping[str, Any], spec: ModelSpec, *, is_half: bool
    ) -> FusedOptions:
        """Choose what suits a network.

        Args:
            dtype: of the weights.
            config: the checkpoint's config, as transformers names its fields.
            spec: the sizes in it.
            is_half: whether activations and KV cache are fp16, for CUDA.
        """
        bits = BITS.get(dtype, 0)
        widths = _widths(config, spec).values()
        block_size = BLOCK_SIZE if is_half else choose_block_size(bits, widths)
        return cls(dtype=dtype, half_activations=is_half, block_size=block_size)

    @property
    def tensors(self) -> TensorNames:
        """The graph's border."""
        if not self.half_activations:
            return TENSORS
        return replace(TENSORS, best_ids="best_ids", best_log_probs="best_log_probs")

    @property
    def quantization(self) -> Quantization | None:
        """What the manifest says of the weights."""
        bits = BITS.get(self.dtype)
        if not bits:
            return None
        return Quantization(bits=bits, head_bits=HEAD_BITS, block_size=self.block_size)


def check_fusable(
    architecture: str, config: Mapping[str, Any], spec: ModelSpec, options: FusedOptions
) -> None:
    """Raise UnsupportedModelError if `build_fused` can't write this network."""
    if architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} has no fused graph (known: {', '.join(ARCHITECTURES)});"
            " use --layout portable"
        )
    if config["activation_function"] not in (*GELU_TANH, "gelu", "relu"):
        raise UnsupportedModelError(
            f"activation {config['activation_function']!r} has no fused graph; "
            "use --layout portable"
        )
    if options.quantization:
        for name, width in _widths(config, spec).items():
            if width % options.block_size:
                raise UnsupportedModelError(
                    f"{name} {width} is not a multiple of {options.block_size}, the block of "
                    f"{options.dtype}; use --dtype fp32"
                )


def _widths(config: Mapping[str, Any], spec: ModelSpec) -> Mapping[str, int]:
    """Return how many inputs the matrices have, by the config's names."""
    return {"n_embd": spec.n_embd, "n_inner": config.get("n_inner") or 4 * spec.n_embd}
