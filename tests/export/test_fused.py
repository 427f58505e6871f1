"""The fused graph: its structure, and that it computes what transformers computes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch

from export.checkpoint import load_model, read_checkpoint, read_weights
from export.fused import build_fused
from export.fused_options import TENSORS, FusedOptions
from server.errors import UnsupportedModelError

Values = npt.NDArray[np.float32]


def build(folder: Path, **options: Any) -> onnx.ModelProto:
    read = read_checkpoint(folder)
    arrays = {name: t.float().numpy() for name, t in read_weights(read).items()}
    return build_fused(read.architecture, read.config, read.spec, arrays, FusedOptions(**options))


class Runner:
    """Feeds a fused graph directly, batch and all; holds the KV buffers between calls."""

    def __init__(self, graph: onnx.ModelProto, n_batch: int = 1, n_past_max: int = 96) -> None:
        providers = ["CPUExecutionProvider"]
        self.session = ort.InferenceSession(graph.SerializeToString(), providers=providers)
        self.names = [o.name for o in self.session.get_outputs()]
        self.caches = {
            value.name: np.zeros(
                (n_batch, value.shape[1], n_past_max, value.shape[3]),
                np.float16 if "16" in value.type else np.float32,
            )
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values")
        }

    def run(self, token_ids: npt.NDArray[np.int64], n_past: int, logits_from: int = 0) -> Values:
        return self.answer(token_ids, n_past, logits_from)[TENSORS.logits]

    def answer(
        self, token_ids: npt.NDArray[np.int64], n_past: int, logits_from: int = 0
    ) -> dict[str, Values]:
        n_batch, n_new = token_ids.shape
        positions = np.arange(n_past, n_past + n_new, dtype=np.int64)
        outputs = self.session.run(
            None,
            self.caches
            | {
                TENSORS.input_ids: token_ids,
                TENSORS.position_ids: np.tile(positions, (n_batch, 1)),
                TENSORS.seqlens_k: np.full(n_batch, n_past + n_new - 1, np.int32),
                TENSORS.total_len: np.array([n_past + n_new], np.int32),
                TENSORS.logits_from: np.array([logits_from], np.int64),
            },
        )
        by_name = dict(zip(self.names, outputs, strict=True))
        for name in self.caches:
            self.caches[name] = by_name[name.replace("past_key_values", "present")]
        return by_name


def reference(folder: Path, token_ids: npt.NDArray[np.int64]) -> Values:
    read = read_checkpoint(folder)
    with torch.inference_mode():
        logits: Values = load_model(read, read_weights(read))(
            torch.tensor(token_ids)
        ).logits.numpy()
    return logits


def relative_error(wanted: Values, found: Values) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


TOKENS = np.random.default_rng(3).integers(0, 264, (2, 90), dtype=np.int64)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("gpt2", {"activation_function": "relu"}),
    ("gpt2", {"activation_function": "gelu"}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", {"scale_attn_weights": False}),
    ("gpt2", {"tie_word_embeddings": False}),
    ("gpt2", {"n_inner": 96, "layer_norm_epsilon": 1e-3}),
    ("gpt_bigcode", {}),
    ("gpt_bigcode", {"multi_query": False}),
]


@pytest.mark.parametrize(("architecture", "changes"), VARIANTS)
def test_graph_agrees_with_pytorch(
    make_checkpoint: Callable[..., Path], architecture: str, changes: dict[str, Any]
) -> None:
    folder = make_checkpoint(architecture, **changes)
    tokens = TOKENS[:1]
    wanted = reference(folder, tokens)
    runner = Runner(build(folder, dtype="fp32"))

    prefill = runner.run(tokens[:, :50], 0)
    chunk = runner.run(tokens[:, 50:59], 50)
    decode = runner.run(tokens[:, 59:60], 59)
    runner.run(tokens[:, :7], 60)  # a wrong turn
    rewound = runner.run(tokens[:, 40:], 40)

    steps = {(0, 50): prefill, (50, 59): chunk, (59, 60): decode, (40, 90): rewound}
    for (start, end), found in steps.items():
        assert relative_error(wanted[:, start:end], found) < 1e-5


def test_batch_of_two_prefills_and_decodes(checkpoint: Path) -> None:
    """The operator takes no batch of several tokens after a past: the contract says so too."""
    wanted = reference(checkpoint, TOKENS)
    runner = Runner(build(checkpoint, dtype="fp32"), n_batch=2)

    prefill = runner.run(TOKENS[:, :50], 0)
    decode = runner.run(TOKENS[:, 50:51], 50)

    assert relative_error(wanted[:, :50], prefill) < 1e-5
    assert relative_error(wanted[:, 50:51], decode) < 1e-5


def test_logits_are_computed_only_where_they_are_wanted(checkpoint: Path) -> None:
    runner = Runner(build(checkpoint, dtype="int8"))
    every = runner.run(TOKENS[:1, :20], 0)

    assert runner.run(TOKENS[:1, :20], 0, logits_from=20).shape == (1, 0, 264)
    np.testing.assert_array_equal(runner.run(TOKENS[:1, :20], 0, logits_from=17), every[:, 17:])


def test_log_probabilities_are_normalized(checkpoint: Path) -> None:
    answer = Runner(build(checkpoint, dtype="int8")).answer(TOKENS[:1, :20], 0, logits_from=17)
    logits = answer[TENSORS.logits].astype(np.float64)
    wanted = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    assert relative_error(wanted, answer[TENSORS.log_probs]) < 1e-6


@pytest.mark.parametrize("dtype", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("n_wanted", [0, 1, 5])
def test_graph_for_cuda_finds_the_likeliest_tokens(
    checkpoint: Path, dtype: str, n_wanted: int
) -> None:
    """Its contrib operators run on the CPU as well, more slowly."""
    options = FusedOptions(dtype=dtype, half_activations=True)
    runner = Runner(build(checkpoint, dtype=dtype, half_activations=True))
    answer = runner.answer(TOKENS[:1, :20], 0, logits_from=20 - n_wanted)
    log_probs = answer[TENSORS.log_probs]

    assert answer[options.tensors.best_ids].shape == (1, n_wanted, 1)
    np.testing.assert_array_equal(answer[options.tensors.best_ids][..., 0], log_probs.argmax(-1))
    if n_wanted:
        np.testing.assert_array_equal(
            answer[options.tensors.best_log_probs][..., 0], log_probs.max(-1)
        )


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_bigcode"])
@pytest.mark.parametrize(("dtype", "bound"), [("int8", 0.05), ("int4", 0.4)])
def test_quantized_graph_stays_near_pytorch(
    make_checkpoint: Callable[..., Path], architecture: str, dtype: str, bound: float
) -> None:
    folder = make_checkpoint(architecture)
    found = Runner(build(folder, dtype=dtype)).run(TOKENS[:1], 0)

    assert relative_error(reference(folder, TOKENS[:1]), found) < bound


def test_structure_of_a_block_is_ten_operators(checkpoint: Path) -> None:
    """Golden: one more operator per block costs the small model five percent of its decode."""
    graph = build(checkpoint, dtype="int8").graph

    assert Counter(node.op_type for node in graph.node) == {
        "GatherBlockQuantized": 1,
        "Gather": 1,
        "Reshape": 1,
        "Slice": 1,
        "LogSoftmax": 1,
        "GroupQueryAttention": 2,
        "FastGelu": 2,
        "LayerNormalization": 5,
        "MatMulNBits": 9,
        "Add": 1 + 2 * 5,
    }


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        ("fp32", ["wte.weight"]),
        ("int8", ["wte.blocks", "wte.scales"]),
        ("int4", ["wte.blocks", "wte.scales"]),
    ],
)
def test_embedding_and_tied_head_are_one_tensor(
    checkpoint: Path, dtype: str, names: list[str]
) -> None:
    tensors = build(checkpoint, dtype=dtype).graph.initializer

    assert [t.name for t in tensors if 264 in t.dims] == names


def test_four_bits_keep_the_head_in_eight(checkpoint: Path) -> None:
    nodes = build(checkpoint, dtype="int4").graph.node
    bits = {
        node.output[0]: attribute.i
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "bits"
    }

    assert bits.pop("token") == bits.pop("logits") == 8
    assert set(bits.values()) == {4}


@pytest.mark.parametrize("dtype", ["fp16", "int8", "int4"])
def test_graph_for_cuda_is_half_precision_up_to_the_logits(checkpoint: Path, dtype: str) -> None:
    model = build(checkpoint, dtype=dtype, half_activations=True)

    onnx.checker.check_model(model)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds
    border = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.output,)}
    for name in ("logits", "log_probs", "best_log_probs"):
        assert border.pop(name) == onnx.TensorProto.FLOAT
    assert border.pop("best_ids") == onnx.TensorProto.INT64
    assert set(border.values()) == {onnx.TensorProto.FLOAT16}


def test_activation_without_a_fused_graph_points_to_portable(
    make_checkpoint: Callable[..., Path],
) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'silu' has no fused graph.*portable"):
        build(make_checkpoint(activation_function="silu"), dtype="fp32")


def test_other_architectures_point_to_portable(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'llama' has no fused graph .*portable"):
        build(make_checkpoint("llama"), dtype="fp32")


def test_width_that_is_no_multiple_of_the_block_is_refused(
    make_checkpoint: Callable[..., Path],
) -> None:
    folder = make_checkpoint(n_embd=48)

    with pytest.raises(UnsupportedModelError, match="n_embd 48 is not a multiple of 32"):
        build(folder, dtype="int8")
    build(folder, dtype="fp32")


def test_inner_width_that_is_no_multiple_of_the_block_is_refused(
    make_checkpoint: Callable[..., Path],
) -> None:
    with pytest.raises(UnsupportedModelError, match="n_inner 100 is not a multiple of 32"):
        build(make_checkpoint(n_inner=100), dtype="int8")
