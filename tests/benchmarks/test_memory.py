"""What the memory costs: every figure is there, and texts repeat themselves as code does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.memory import N_PARTS, MemoryPlan, measure
from benchmarks.results import Recorder
from benchmarks.workspaces import make_texts, read_files
from server.bundle import EMBEDDED_FOLDER, read_bundle


@pytest.mark.slow
def test_every_cost_is_measured() -> None:
    recorder = Recorder(kind="memory", command="test", seed=0, settings={})
    done: list[str] = []
    plan = MemoryPlan(n_tokens=70_000, folder=None, n_rounds=2, n_threads=1, seed=0)
    measure(recorder, read_bundle(EMBEDDED_FOLDER), plan, done.append)
    figures = {f"{one.subject}/{one.name}": one for one in recorder.figures}
    assert figures.keys() == {
        "engine/token_alone",
        "engine/answer_late",
        "engine/token_while_learning",
        "engine/answer_late_while_learning",
        "engine/passes_late_while_learning",
        "engine/learn",
        "index/bytes_per_token",
        "engine/resident_growth",
        "engine/saved_file_is_current",
        "network/token",
        "network and drafts/token",
        "network and drafts/tokens_per_pass",
        "memory/token",
        "memory and drafts/token",
        "memory and drafts/tokens_per_pass",
        "memory/mixed_token",
    }
    assert [(one.subject, one.over) for one in recorder.ratios] == [
        ("memory", "network"),
        ("memory and drafts", "network"),
        ("network and drafts", "network"),
        ("memory and drafts", "memory"),
    ]
    for drafting in ("network and drafts", "memory and drafts"):
        assert figures[f"{drafting}/tokens_per_pass"].low >= 1
    assert 6 <= figures["index/bytes_per_token"].median < 6.1
    assert len(done) == 2 + N_PARTS


def test_files_of_some_size_are_the_workspace(tmp_path: Path) -> None:
    for n in range(12):
        (tmp_path / f"{n}.py").write_text(f"x = {n}\n" * 400)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "notes.txt").write_text("x" * 4000)
    assert {file.path for file in read_files(tmp_path)} == {f"{n}.py" for n in range(12)}
    with pytest.raises(BenchmarkError, match="too few"):
        read_files(tmp_path / "none")


def test_texts_repeat_their_phrases() -> None:
    texts = make_texts(40_000, 8192, seed=0)
    assert sum(len(text) for text in texts) == pytest.approx(40_000, rel=0.05)
    lines = np.concatenate(texts).reshape(-1, 12)
    assert len(np.unique(lines, axis=0)) < len(lines) / 2
