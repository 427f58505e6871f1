"""Which part of the server a sampled stack counts for, and a real server sampled."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.profile import PARTS, measure, part_of, program, shares
from benchmarks.results import Recorder
from benchmarks.scenario import find_passage
from server.bundle import EMBEDDED_FOLDER, read_bundle

RUN = "run (site-packages/onnxruntime/session.py:578)"
FORWARD = "forward (server/backends/ort.py:80)"


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        (["generate_tokens (server/decoding/generate.py:1)", FORWARD, RUN], "forward passes"),
        (["prefill (server/decoding/generate.py:1)", FORWARD], "forward passes: prefill"),
        (["x (server/decoding/memory/recall.py:1)", "argsort (numpy/f.py:2)"], "workspace memory"),
        (["x (server/decoding/decoder.py:1)"], "prefill and decode, around the passes"),
        (["x (server/completion/filters/suffix.py:1)"], "filters and stop rules"),
        (["x (server/lsp/a.py:1)", "dumps (json/b.py:2)"], "protocol: JSON, LSP, positions"),
        (["x (server/cli.py:1)", "_run_once (asyncio/base_events.py:2)"], "event loop"),
        (["x (site-packages/pygls/server/y.py:1)"], "other"),
    ],
)
def test_a_stack_counts_for_the_innermost_part(frames: list[str], part: str) -> None:
    assert part_of(frames) == part


def test_shares_leave_out_those_who_wait() -> None:
    raw = f"a;{FORWARD} 30\nb;x (server/logs.py:3) 10\nc;Condition.wait (threading.py:327) 500\n"
    assert shares(raw) == (40, {"forward passes": 0.75, "log": 0.25})
    with pytest.raises(BenchmarkError, match="no sample"):
        shares("c;Condition.wait (threading.py:327) 500\n")


def test_every_part_names_code_that_is_there() -> None:
    root = Path(__file__).parents[2] / "server"
    for _, place in PARTS:
        assert list(root.glob(f"{place.rstrip('/')}*")), place


@pytest.mark.slow
@pytest.mark.skipif(not program().is_file(), reason="py-spy is not installed (extra `bench`)")
def test_a_real_server_is_sampled() -> None:
    file = Path(inspect.getfile(argparse))
    passage = find_passage(file.read_text(encoding="utf-8"), 1)
    recorder = Recorder(kind="profile", command="test", seed=0, settings={})
    bundle = read_bundle(EMBEDDED_FOLDER)
    measure(recorder, bundle, file, passage, {"threads": 1}, 100, lambda _: None)
    found = {one.subject: one.median for one in recorder.figures if one.name == "share"}
    assert found["forward passes"] > 0
    assert sum(found.values()) == pytest.approx(1)
