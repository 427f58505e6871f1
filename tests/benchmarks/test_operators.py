"""What a pass is made of, summed up; the same product in several ways."""

from typing import Any

import numpy as np
import pytest

from benchmarks.operators import (
    BASE,
    Share,
    _products,
    _session,
    product_table,
    profile,
    share_table,
    sum_up,
)
from server.bundle import EMBEDDED_FOLDER, read_bundle


def event(ts: int, dur: int, op_name: str, **shapes: list[int]) -> dict[str, Any]:
    arguments = {f"{name}_type_shape": [{"float": shape}] for name, shape in shapes.items()}
    return {
        "cat": "Node",
        "name": f"node_{ts}_kernel_time",
        "ts": ts,
        "dur": dur,
        "args": {"op_name": op_name, **arguments},
    }


def test_operators_are_summed_up_by_kind_without_the_first_pass() -> None:
    sizes = {"input": [1, 10, 4], "output": [1, 10, 8]}
    events = [{"cat": "Session", "name": "model_run", "dur": 9_000_000, "ts": 0}]
    for number, scale in enumerate((100, 1, 3)):
        start = 10 * number
        events += [
            event(start + 1, 1000 * scale, "MatMulNBits", **sizes),
            event(start + 2, 3000 * scale, "MatMulNBits", **sizes),
            event(start + 3, 500 * scale, "Add"),
        ]
    assert sum_up(events, 3) == [
        Share(kind="MatMulNBits 4 to 8", n=2, ms=8.0, gflops=pytest.approx(2 * 640 / 8e6)),
        Share(kind="Add", n=1, ms=1.0, gflops=None),
    ]


def test_shares_are_those_of_the_whole() -> None:
    shares = [
        Share(kind="MatMul 1 to 2", n=2, ms=3.0, gflops=7.4),
        Share(kind="Add", n=1, ms=1.0, gflops=None),
    ]
    assert share_table(shares).splitlines()[2:] == [
        "| MatMul 1 to 2 | 2 | 3 | 75% | 7 |",
        "| Add | 1 | 1 | 25% |  |",
        "| all | | 4 | | |",
    ]


def test_embedded_graph_is_profiled() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    kinds = {share.kind: share.n for share in profile(bundle, 9, 1, 1)}
    spec = bundle.manifest.spec
    assert kinds[f"MatMulNBits {spec.n_embd} to {4 * spec.n_embd}"] == spec.n_layer
    assert kinds["GroupQueryAttention"] == spec.n_layer


def test_all_ways_give_nearly_the_same_product() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((64, 256)).astype(np.float32)
    inputs = random.standard_normal((5, 256)).astype(np.float32)
    products = {
        name: _session(m, 1).run(None, {"x": inputs})[0] for name, m in _products(weight).items()
    }
    exact = inputs @ weight.T
    assert len(products) == 7
    for name, product in products.items():
        error = np.abs(product - exact).max() / np.abs(exact).max()
        assert error < 0.03, name
    table = product_table({name: [2.0, 2.0] for name in products})
    assert f"| {BASE} | 2 | 1.00" in table
