"""Schedules against their closed forms."""

from __future__ import annotations

import math

import pytest

from training.config import ScheduleConfig
from training.schedules import advanced, lr_factor

TABLE = [
    ("constant", 0.0, 1.0),
    ("constant", 0.9, 1.0),
    ("linear", 0.25, 0.75),
    ("linear", 1.0, 0.0),
    ("cosine", 0.0, 1.0),
    ("cosine", 0.5, 0.5),
    ("cosine", 1 / 3, 0.5 * (1 + math.cos(math.pi / 3))),
    ("cosine", 1.0, 0.0),
    ("step", 0.24, 1.0),
    ("step", 0.25, 0.5),
    ("step", 0.75, 0.125),
    ("wsd", 0.5, 1.0),
    ("wsd", 0.7, 1.0),
    ("wsd", 0.85, 0.5),
    ("wsd", 1.0, 0.0),
]


@pytest.mark.parametrize(("kind", "progress", "expected"), TABLE)
def test_factor_is_the_closed_form(kind: str, progress: float, expected: float) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_steps=0, cooldown_share=0.3)
    assert lr_factor(schedule, 1000, progress) == pytest.approx(expected)


def test_linear_and_cosine_end_at_the_final_share() -> None:
    for kind in ("linear", "cosine"):
        schedule = ScheduleConfig(kind=kind, warmup_steps=0, final_share=0.1)
        assert lr_factor(schedule, 1000, 1.0) == pytest.approx(0.1)


def test_warmup_rises_in_equal_steps_and_multiplies_the_schedule() -> None:
    schedule = ScheduleConfig(kind="constant", warmup_steps=4)
    assert [lr_factor(schedule, n, 0.0) for n in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_progress_by_a_known_count_is_step_over_steps() -> None:
    progress = 0.0
    for step in range(8):
        assert progress == pytest.approx(step / 8)
        progress = advanced(progress, 8 - step)
    assert progress == pytest.approx(1.0)


def test_progress_bends_to_an_estimate_that_changes() -> None:
    """The machine became half as fast midway: four steps are left, not eight."""
    progress = 0.5
    for left in (4, 3, 2, 1):
        progress = advanced(progress, left)
    assert progress == pytest.approx(1.0)
