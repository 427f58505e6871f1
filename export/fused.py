"""Writes GPT-2 and GPTBigCode as one ONNX graph on onnxruntime's contrib operators.

Knows graphs and arrays: no folders, no tokenizer. `GroupQueryAttention` works on a KV buffer that
input and output share, so that no token is copied twice; `MatMulNBits` and `GatherBlockQuantized`
read one quantized tensor for the embedding and the tied head; logits are computed only from
`logits_from` on.

Shape letters: B batch, T new tokens, P past tokens, M cache capacity, H heads, D head width,
E = n_embd, V vocabulary, K inputs and N outputs of a linear layer.

Source: the network is that of Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners"; one KV head as in Shazeer 2019, arXiv:1911.02150; operators as in onnxruntime's
docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.fused_options import GELU_TANH, TENSORS, FusedOptions, check_fusable
from export.quantize import Array, quantize_matrix
from server.manifest import ModelSpec

OPSET = 18
IR_VERSION = 10
CONTRIB = "com.microsoft"
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: activations are rounded to int8 block by block


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear layer: weight [N, K], bias [N] or None."""

    weight: Array
    bias: Array | None = None


def build_fused(
    architecture: str,
    config: Mapping[str, Any],
    spec: ModelSpec,
    weights: Mapping[str, Array],
    options: FusedOptions,
) -> onnx.ModelProto:
    """Return the graph of a GPT-2 or GPTBigCode checkpoint.

    Args:
        architecture: one of `fused_options.ARCHITECTURES`.
        config: the checkpoint's config, as transformers names its fields.
        spec: the sizes in it.
        weights: fp32, under transformers' names; a tied head may be missing.
        options: how the graph's numbers are stored.

    Raises:
        UnsupportedModelError: the config asks for something that the graph does not do, or a size
        does not fit the quantization's blocks.
    """
    check_fusable(architecture, config, spec, options)
    return _Builder(architecture, config, spec, weights, options).build()


class _Builder:
    """The graph while it grows: nodes and initializers, each tensor under a readable name."""

    def __init__(
        self,
        architecture: str,
        config: Mapping[str, Any],
        spec: ModelSpec,
        weights: Mapping[str, Array],
        options: FusedOptions,
    ) -> None:
        self.is_bigcode = architecture == "gpt_bigcode"
        self.config = config
        self.spec = spec
        self.weights = weights
        self.options = options
        self.tensors = options.tensors
        half = options.half_activations
        self.float_type = np.dtype(np.float16 if half else np.float32)
        self.float_code = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.constants: set[str] = set()

    def build(self) -> onnx.ModelProto:
        x = self.embed()
        for layer in range(self.spec.n_layer):
            x = self.block(x, layer)
        self.head(self.norm(x, "ln_f"))
        inputs, outputs = self.border()
        graph = helper.make_graph(self.nodes, "foretype", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="foretype"
        )

    def embed(self) -> str:
        """Token and position embedding, [B, T, E]."""
        table = self.weights["transformer.wte.weight"]  # [V, E]
        positions = self.constant("wpe", self.weights["transformer.wpe.weight"])
        position = self.node("Gather", [positions, TENSORS.position_ids], "position")
        if not self.options.quantization:
            rows = self.constant("wte.weight", table)
            token = self.node("Gather", [rows, TENSORS.input_ids], "token")
            return self.node("Add", [token, position], "embedding")
        blocks, scales = self.quantized("wte", table, self.options.quantization.head_bits)
        # One tensor, two readers: MatMulNBits wants [V, G, bytes], GatherBlockQuantized rows.
        rows = self.constant("wte.row_shape", np.array([self.spec.n_vocab, -1], np.int64))
        rows = self.node("Reshape", [blocks, rows], "wte.rows")
        token = self.node(
            "GatherBlockQuantized",
            [rows, TENSORS.input_ids, scales],
            "token",
            bits=self.options.quantization.head_bits,
            block_size=self.options.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        return self.node("Add", [token, position], "embedding")

    def block(self, x: str, layer: int) -> str:
        """One transformer block: x [B, T, E] -> [B, T, E]."""
        attended = self.attention(self.norm(x, f"h.{layer}.ln_1"), layer)
        projected = self.linear(attended, f"h.{layer}.attn.c_proj")
        x = self.node("Add", [x, projected], f"h.{layer}.attended")
        hidden = self.mlp(self.norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp")
        return self.node("Add", [x, hidden], f"h.{layer}.output")

    def attention(self, x: str, layer: int) -> str:
        """Attention over the shared KV buffer: x [B, T, E] -> [B, T, E]."""
        name = f"h.{layer}.attn"
        spec = self.spec
        # Packed [B, T, E + 2 * kv_width]: the operator splits it, which spares a copy per layer.
        qkv = self.linear(x, f"{name}.c_attn")
        past = [TENSORS.past_key.format(layer=layer), TENSORS.past_value.format(layer=layer)]
        present = [
            TENSORS.present_key.format(layer=layer),
            TENSORS.present_value.format(layer=layer),
        ]
        output = f"{name}.attended"
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [qkv, "", "", *past, TENSORS.seqlens_k, TENSORS.total_len],
                [output, *present],
                name=output,
                domain=CONTRIB,
                num_heads=spec.n_head,
                kv_num_heads=spec.n_kv_head,
                scale=self.attention_scale(layer),
            )
        )
        return output

    def attention_scale(self, layer: int) -> float:
        scale = self.spec.head_width**-0.5 if self.config["scale_attn_weights"] else 1.0
        by_layer = self.config.get("scale_attn_by_inverse_layer_idx", False)
        return scale / (layer + 1) if by_layer else scale

    def mlp(self, x: str, name: str) -> str:
        """The feed-forward part: [B, T, E] -> [B, T, E]."""
        layer = self.layer(f"{name}.c_fc")
        hidden = self.matmul(x, layer.weight, f"{name}.c_fc")
        activation = self.config["activation_function"]
        bias = self.constant(f"{name}.c_fc.bias", layer.bias)
        if activation in GELU_TANH:
            hidden = self.node("FastGelu", [hidden, bias], f"{name}.gelu")
        else:
            hidden = self.node("Add", [hidden, bias], f"{name}.biased")
            hidden = self.node("Gelu" if activation == "gelu" else "Relu", [hidden], f"{name}.act")
        return self.linear(hidden, f"{name}.c_proj")

    def head(self, x: str) -> None:
        """Logits and log-probabilities [B, T - logits_from, V], always fp32.

        For CUDA the likeliest token is found here too: then two numbers are fetched, no row.
        """
        end = self.constant("int_max", np.array([2**31 - 1], np.int64))
        axis = self.constant("time_axis", np.array([1], np.int64))
        x = self.node("Slice", [x, TENSORS.logits_from, end, axis], "wanted")
        head = self.weights.get("lm_head.weight")
        name = "wte" if head is None else "lm_head"
        weight = self.weights["transformer.wte.weight"] if head is None else head
        logits = self.tensors.logits
        if self.options.half_activations:
            half = self.matmul(x, weight, name, is_head=True)
            self.node("Cast", [half], logits, to=TensorProto.FLOAT)
        else:
            self.matmul(x, weight, name, is_head=True, output=logits)
        log_probs = self.node("LogSoftmax", [logits], self.tensors.log_probs, axis=-1)
        if self.tensors.best_ids:
            one = self.constant("one", np.array([1], np.int64))
            best = [self.tensors.best_log_probs, self.tensors.best_ids]
            self.nodes.append(helper.make_node("TopK", [log_probs, one], best, name="best"))

    def norm(self, x: str, name: str) -> str:
        return self.node(
            "LayerNormalization",
            [
                x,
                self.constant(f"{name}.weight", self.weights[f"transformer.{name}.weight"]),
                self.constant(f"{name}.bias", self.weights[f"transformer.{name}.bias"]),
            ],
            f"{name}.normed",
            epsilon=float(self.config["layer_norm_epsilon"]),
        )

    def layer(self, name: str) -> Linear:
        """Return a linear layer as [N, K], however the architecture stores it."""
        weight = self.weights[f"transformer.{name}.weight"]
        bias = self.weights[f"transformer.{name}.bias"]
        if not self.is_bigcode:
            return Linear(weight=weight.T, bias=bias)  # GPT-2's Conv1D stores [K, N].
        if name.endswith("c_attn") and not self.config["multi_query"]:
            # Stored head by head, [H, (q, k, v), D]; wanted [(q, k, v), H, D].
            heads = (self.spec.n_head, 3, self.spec.head_width)
            weight = weight.reshape(*heads, -1).swapaxes(0, 1).reshape(weight.shape)
            bias = bias.reshape(heads).swapaxes(0, 1).reshape(-1)
        return Linear(weight=weight, bias=bias)

    def linear(self, x: str, name: str) -> str:
        layer = self.layer(name)
        product = self.matmul(x, layer.weight, name)
        return self.node("Add", [product, self.constant(f"{name}.bias", layer.bias)], f"{name}.out")

    def matmul(
        self, x: str, weight: Array, name: str, *, is_head: bool = False, output: str = ""
    ) -> str:
        """X [B, T, K] @ weight [N, K], over K: [B, T, N]."""
        output = output or f"{name}.product"
        if not self.options.quantization:
            # Stored as it lies, so that a tied head is the embedding's own tensor.
            stored = self.constant(f"{name}.weight", weight)
            return self.node("FusedMatMul", [x, stored], output, transB=1)
        quantization = self.options.quantization
        bits = quantization.head_bits if is_head else quantization.bits
        blocks, scales = self.quantized(name, weight, bits)
        return self.node(
            "MatMulNBits",
            [x, blocks, scales],
            output,
            N=weight.shape[0],
            K=weight.shape[1],
            bits=bits,
            block_size=self.options.block_size,
            accuracy_level=INT8_ACTIVATIONS,
        )

    def quantized(self, name: str, weight: Array, bits: int) -> tuple[str, str]:
        """Return the names of blocks and scales; a second call with the name adds nothing."""
        names = (f"{name}.blocks", f"{name}.scales")
        if names[0] not in self.constants:
            matrix = quantize_matrix(weight, bits, self.options.block_size)
            self.constant(names[0], matrix.packed)
            self.constant(names[1], matrix.scales)
        return names

    def constant(self, name: str, array: npt.NDArray[Any] | None) -> str:
        assert array is not None
        if name in self.constants:
            return name
        self.constants.add(name)
        if array.dtype == np.float32:
            array = array.astype(self.float_type)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        standard = op in STANDARD_OPS
        self.nodes.append(
            helper.make_node(
                op, inputs, [output], name=output, domain="" if standard else CONTRIB, **attributes
            )
        )
        return output

    def border(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """The graph's inputs and outputs, as `TensorNames` describes the fused layout."""
        info = helper.make_tensor_value_info
        inputs = [
            info(TENSORS.input_ids, TensorProto.INT64, ["batch", "tokens"]),
            info(TENSORS.position_ids, TensorProto.INT64, ["batch", "tokens"]),
            info(TENSORS.seqlens_k, TensorProto.INT32, ["batch"]),
            info(TENSORS.total_len, TensorProto.INT32, [1]),
            info(TENSORS.logits_from, TensorProto.INT64, [1]),
        ]
        rows: list[str | int | None] = ["batch", "wanted", self.spec.n_vocab]
        outputs = [
            info(self.tensors.logits, TensorProto.FLOAT, rows),
            info(self.tensors.log_probs, TensorProto.FLOAT, rows),
        ]
        if self.tensors.best_ids:
            best: list[str | int | None] = ["batch", "wanted", 1]
            outputs.append(info(self.tensors.best_ids, TensorProto.INT64, best))
            outputs.append(info(self.tensors.best_log_probs, TensorProto.FLOAT, best))
        shape: list[str | int | None] = [
            "batch",
            self.spec.n_kv_head,
            "capacity",
            self.spec.head_width,
        ]
        for layer in range(self.spec.n_layer):
            for name in (TENSORS.past_key, TENSORS.past_value):
                inputs.append(info(name.format(layer=layer), self.float_code, shape))
            for name in (TENSORS.present_key, TENSORS.present_value):
                outputs.append(info(name.format(layer=layer), self.float_code, shape))
        return inputs, outputs


STANDARD_OPS = frozenset(
    ("Add", "Cast", "Gather", "LayerNormalization", "LogSoftmax", "Relu", "Reshape", "Slice")
)
