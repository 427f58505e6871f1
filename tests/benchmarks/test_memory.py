"""What the memory costs: every figure is there, and texts repeat themselves as code does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.memory import MemoryPlan, make_texts, measure
from benchmarks.results import Recorder
from server.bundle import EMBEDDED_FOLDER, read_bundle


@pytest.mark.slow
def test_every_cost_is_measured() -> None:
    recorder = Recorder(kind="memory", command="test", seed=0, settings={})
    done: list[str] = []
    plan = MemoryPlan(n_tokens=70_000, n_saves=2, n_threads=1, seed=0)
    measure(recorder, read_bundle(EMBEDDED_FOLDER), plan, done.append)
    figures = {one.name: one for one in recorder.figures}
    assert figures.keys() == {
        "token_alone",
        "token_while_learning",
        "learn",
        "bytes_per_token",
        "resident_growth",
        "saved_file_is_current",
        "mixed_token",
    }
    assert 6 <= figures["bytes_per_token"].median < 6.1
    assert len(done) == 4


def test_texts_repeat_their_phrases() -> None:
    texts = make_texts(40_000, 8192, seed=0)
    assert sum(len(text) for text in texts) == pytest.approx(40_000, rel=0.05)
    lines = np.concatenate(texts).reshape(-1, 12)
    assert len(np.unique(lines, axis=0)) < len(lines) / 2
