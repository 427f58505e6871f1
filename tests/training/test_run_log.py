"""What a run tells: JSON lines in any case, TensorBoard's events where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from unittest import mock

import pytest

from training.plots import read_log
from training.run_log import LOG, TENSORBOARD, RunLog

ROWS = [{"step": 10, "loss": 2.5, "tokens": 640}, {"step": 20, "dev_bits": 1.25}]


def test_rows_are_on_disk_while_the_run_goes_on_and_a_resumed_run_adds_to_them(
    tmp_path: Path,
) -> None:
    with RunLog(tmp_path) as log:
        log.write(ROWS[0])
        assert read_log(tmp_path / LOG) == ROWS[:1]
    with RunLog(tmp_path) as log:
        log.write(ROWS[1])
    assert read_log(tmp_path / LOG) == ROWS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own
def test_tensorboard_shows_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path) as log:
        for row in ROWS:
            log.write(row)
    events = EventAccumulator(str(tmp_path / TENSORBOARD))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "tokens", "dev_bits"]
    assert [(e.step, e.value) for e in events.Scalars("dev_bits")] == [(20, 1.25)]


def test_nothing_is_missed_without_tensorboard(tmp_path: Path) -> None:
    with mock.patch.object(importlib.util, "find_spec", return_value=None), RunLog(tmp_path) as log:
        log.write(ROWS[0])
    assert [path.name for path in tmp_path.iterdir()] == [LOG]
