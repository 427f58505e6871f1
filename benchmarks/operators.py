"""Where a prefill's time goes, operator by operator: `python -m benchmarks.operators`.

onnxruntime's own profiler on the graph that is served, one pass over a prompt; then the widest
matrix product of the network alone, as it is stored and in other ways, in turn. Does not know the
server.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.machine import load_average, machine_line
from benchmarks.models import RANDOM_DTYPES, open_bundle
from benchmarks.subjects import sample_tokens
from benchmarks.threads import ratio_text
from export.quantize import quantize_matrix
from server.backends.contract import BackendInfo, BackendOptions
from server.backends.ort import OrtBackend
from server.backends.ort_session import open_session
from server.bundle import Bundle

SEED = 1
SETTLE_S = 0.05
BASE = "blocks of 32"
OPSET, MICROSOFT = 21, "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What operators of one kind took of a pass, all together."""

    kind: str
    n: int
    """Operators of it in a pass."""
    ms: float
    """The median over the passes."""
    gflops: float | None
    """Of matrix products: 10^9 multiplications and additions per second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print two tables in Markdown."""
    options = _parser().parse_args(arguments)
    bundle = open_bundle(options.model, options.random, lambda text: print(text, file=sys.stderr))
    n_tokens = min(options.tokens, bundle.manifest.spec.n_ctx - 17)
    shares = profile(bundle, n_tokens, options.rounds, options.threads)
    print(f"{bundle.manifest.name}, {bundle.manifest.dtype}; {machine_line()}, seed {SEED}")
    print(f"{options.threads} threads, one pass over {n_tokens} tokens, {options.rounds} rounds:\n")
    print(share_table(shares))
    n_embd = bundle.manifest.spec.n_embd
    times = time_products(n_tokens, n_embd, 4 * n_embd, options.rounds, options.threads)
    print(f"\n[{n_tokens}, {n_embd}] times [{n_embd}, {4 * n_embd}] alone:\n")
    print(product_table(times))
    print(f"\nload average {load_average()} at the end")
    return 0


def profile(bundle: Bundle, n_tokens: int, n_rounds: int, n_threads: int) -> list[Share]:
    """Profile passes over a prompt, each from nothing; the first is left out.

    Raises:
        CompletionServerError: onnxruntime refuses the graph.
    """
    opened = open_session(bundle, BackendOptions(device="cpu", n_threads=n_threads), "cpu")
    with TemporaryDirectory() as temporary:
        options = opened.session.get_session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(temporary) / "profile")
        profiled = opened.ort.InferenceSession(
            str(bundle.model_path), options, providers=[opened.provider]
        )
        info = BackendInfo(name="ort", device="cpu", provider=opened.provider, dtype="")
        backend = OrtBackend(replace(opened, session=profiled), info)
        token_ids = sample_tokens(backend.spec.n_vocab, n_tokens, SEED)
        for _ in range(n_rounds + 1):
            backend.forward(token_ids, backend.new_cache())
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
        backend.close()
    return sum_up(events, n_rounds + 1)


def sum_up(events: Sequence[Mapping[str, Any]], n_passes: int) -> list[Share]:
    """Sum up the profiler's events by kind of operator, the longest first.

    Args:
        events: as onnxruntime writes them; times in microseconds.
        n_passes: that were run, the first of which does not count.
    """
    nodes = [
        event
        for event in sorted(events, key=lambda event: event.get("ts", 0))
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    n_nodes = len(nodes) // n_passes
    by_kind: dict[str, list[list[Mapping[str, Any]]]] = defaultdict(
        lambda: [[] for _ in range(n_passes - 1)]
    )
    for index, event in enumerate(nodes[n_nodes:]):
        by_kind[_kind(event["args"])][index // n_nodes].append(event)
    shares = []
    for kind, passes in by_kind.items():
        ms = statistics.median(sum(event["dur"] for event in one) / 1e3 for one in passes)
        n_flops = sum(_flops(event["args"]) for event in passes[0])
        rate = n_flops / (ms * 1e6) if n_flops and ms else None
        shares.append(Share(kind=kind, n=len(passes[0]), ms=ms, gflops=rate))
    return sorted(shares, key=lambda share: -share.ms)


def share_table(shares: Sequence[Share]) -> str:
    """Return the shares in Markdown."""
    whole = sum(share.ms for share in shares)
    lines = ["| operators | in a pass | ms | share | GFLOP/s |", "|---|---|---|---|---|"]
    for one in shares:
        rate = "" if one.gflops is None else f"{one.gflops:.0f}"
        lines.append(f"| {one.kind} | {one.n} | {one.ms:.3g} | {one.ms / whole:.0%} | {rate} |")
    return "\n".join([*lines, f"| all | | {whole:.3g} | | |"])


def time_products(
    n_tokens: int, n_inputs: int, n_outputs: int, n_rounds: int, n_threads: int
) -> dict[str, list[float]]:
    """Return the milliseconds of one product of matrices, stored and computed in several ways.

    All take turns in each round, in another order each time.
    """
    random_state = np.random.default_rng(SEED)
    weight = random_state.standard_normal((n_outputs, n_inputs), np.float32)
    inputs = {"x": random_state.standard_normal((n_tokens, n_inputs), np.float32)}
    runs: dict[str, Callable[[], Any]] = {}
    for name, model in _products(weight).items():
        session = _session(model, n_threads)
        runs[name] = lambda session=session: session.run(None, inputs)
        runs[name]()
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(SEED)
    for _ in range(n_rounds):
        for name in order.sample(list(runs), len(runs)):
            time.sleep(SETTLE_S)
            started_s = time.perf_counter()
            runs[name]()
            times[name].append(1e3 * (time.perf_counter() - started_s))
    return times


def product_table(times: Mapping[str, Sequence[float]]) -> str:
    """Return the products in Markdown: medians, and the ratio to blocks of 32."""
    lines = ["| weights | ms | ratio (range) |", "|---|---|---|"]
    for name, own in times.items():
        told = ratio_text(list(own), list(times[BASE]))
        lines.append(f"| {name} | {statistics.median(own):.3g} | {told} |")
    return "\n".join(lines)


def _kind(arguments: Mapping[str, Any]) -> str:
    """Return an operator's type; of a product of matrices with its sizes."""
    name = str(arguments["op_name"])
    sizes = _sizes(arguments)
    return f"{name} {sizes[1]} to {sizes[2]}" if sizes else name


def _sizes(arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return rows, inputs and outputs of a product of matrices."""
    if not str(arguments["op_name"]).startswith("MatMul"):
        return None
    (_, given), (_, made) = (
        next(iter(arguments[name][0].items())) for name in ("input_type_shape", "output_type_shape")
    )
    return int(np.prod(given[:-1])), given[-1], made[-1]


def _flops(arguments: Mapping[str, Any]) -> int:
    sizes = _sizes(arguments)
    return 0 if sizes is None else 2 * sizes[0] * sizes[1] * sizes[2]


def _products(weight: np.ndarray) -> dict[str, Any]:
    """Return one-operator graphs that multiply `x` [T, K] with a weight [N, K], by what they are
    called.
    """
    n_outputs, n_inputs = weight.shape
    models = {}
    for block_size, level in ((32, 4), (64, 4), (128, 4), (256, 4), (32, 1)):
        packed = quantize_matrix(weight, 8, block_size)
        name = f"blocks of {block_size}"
        models[name if level == 4 else f"{name}, multiplied in fp32"] = _model(
            "MatMulNBits",
            {"b": packed.packed, "s": packed.scales.reshape(-1)},
            n_outputs,
            domain=MICROSOFT,
            attributes={
                "K": n_inputs,
                "N": n_outputs,
                "bits": 8,
                "block_size": block_size,
                "accuracy_level": level,
            },
        )
    scales = np.abs(weight).max(1) / 127  # [N]
    rounded = np.rint(weight / scales[:, None]).astype(np.int8).T  # [K, N]
    models["a scale per output, the whole input quantized at once"] = _model(
        "DynamicQuantizeMatMul",
        {"b": np.ascontiguousarray(rounded), "s": scales.astype(np.float32)},
        n_outputs,
        domain=MICROSOFT,
    )
    models["fp32"] = _model("MatMul", {"b": np.ascontiguousarray(weight.T)}, n_outputs)
    return models


def _model(
    kind: str,
    constants: Mapping[str, np.ndarray],
    n_outputs: int,
    *,
    domain: str = "",
    attributes: Mapping[str, int] | None = None,
) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node(kind, ["x", *constants], ["y"], domain=domain, **(attributes or {}))
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "K"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", n_outputs])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _session(model: Any, n_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    serialized = model.SerializeToString()
    return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=__doc__)
    parser.add_argument("--model", default="", help="bundle; empty: the embedded one")
    parser.add_argument(
        "--random", choices=RANDOM_DTYPES, help="a random GPT-2 of 124M in this dtype instead"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=495, help="of the prompt")
    parser.add_argument("--rounds", type=int, default=15)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
