"""The measurement of recovery, with the faults that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.errors import BenchmarkError
from benchmarks.results import Recorder

QUICK = ("the engine raises", "half a message", "SIGTERM")


@pytest.mark.e2e
def test_faults_are_injected_survived_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FAULTS", {name: faults.FAULTS[name] for name in QUICK})
    recorder = Recorder(kind="faults", command="", seed=0, settings={})
    assert faults.measure(recorder, n_rounds=1, step=lambda name: None) == []
    told = {(one.subject, one.name): one.median for one in recorder.figures}
    for name in QUICK:
        assert told[name, "injected"] == told[name, "survived"] == 1
        assert told[name, "recovery"] > 0


def test_what_is_not_survived_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> float:
        raise BenchmarkError("no completion comes any more")

    monkeypatch.setattr(faults, "FAULTS", {"all is lost": fails})
    recorder = Recorder(kind="faults", command="", seed=0, settings={})
    wrongs = faults.measure(recorder, n_rounds=2, step=lambda name: None)
    assert wrongs == ["all is lost: no completion comes any more"] * 2
    assert [(one.name, one.median) for one in recorder.figures] == [
        ("injected", 2),
        ("survived", 0),
    ]
