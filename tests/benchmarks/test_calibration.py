"""From confidence and outcomes to the threshold for showing a completion."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.calibration import Outcome, choose_threshold, coverage_curve, draw_curve

# Surer completions are right more often: 0 of 2, 1 of 2, 2 of 2.
OUTCOMES = [
    Outcome(confidence=confidence, is_right=is_right)
    for confidence, is_right in [
        (0.1, False),
        (0.1, False),
        (0.4, False),
        (0.5, True),
        (0.8, True),
        (0.9, True),
    ]
]


def test_coverage_falls_and_counts_the_cursors_with_nothing_to_show() -> None:
    curve = coverage_curve(OUTCOMES, n_asked=8)
    assert curve[0].threshold == 0.0
    assert curve[0].coverage == pytest.approx(6 / 8)
    assert curve[0].precision == pytest.approx(3 / 6)
    coverages = [point.coverage for point in curve]
    assert coverages == sorted(coverages, reverse=True)


def test_the_lowest_threshold_that_stays_precise_is_chosen() -> None:
    curve = coverage_curve(OUTCOMES, n_asked=8)
    assert choose_threshold(curve, 0.5).threshold == 0.0
    assert choose_threshold(curve, 0.75).threshold == pytest.approx(0.12)
    assert choose_threshold(curve, 0.76).threshold == pytest.approx(0.42)
    assert choose_threshold(curve, 1.0).threshold == pytest.approx(0.42)


def test_more_outcomes_than_cursors_are_refused() -> None:
    with pytest.raises(ValueError, match="6 outcomes of 5 cursors"):
        coverage_curve(OUTCOMES, n_asked=5)


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    curve = coverage_curve(OUTCOMES, n_asked=8)
    draw_curve(curve, choose_threshold(curve), "a model", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
