"""From what thresholds show, and whether it is right, to the threshold for showing a completion."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.calibration import (
    N_STEPS,
    Verdict,
    choose_threshold,
    coverage_curve,
    draw_curve,
    judge,
)


def cursor(confidence: float, is_right: bool) -> list[Verdict]:
    """A cursor at which the same is shown up to its confidence."""
    n_shown = round(confidence * N_STEPS) + 1
    return [is_right] * n_shown + [None] * (N_STEPS - n_shown)


# Surer completions are right more often, and at two cursors there is nothing to show.
CURSORS = [
    cursor(0.1, False),
    cursor(0.1, False),
    cursor(0.4, False),
    cursor(0.5, True),
    cursor(0.8, True),
    cursor(0.9, True),
    [None] * N_STEPS,
    [None] * N_STEPS,
]


def test_coverage_falls_and_counts_the_cursors_with_nothing_to_show() -> None:
    curve = coverage_curve(CURSORS)
    assert curve[0].threshold == 0.0
    assert curve[0].coverage == pytest.approx(6 / 8)
    assert curve[0].precision == pytest.approx(3 / 6)
    coverages = [point.coverage for point in curve]
    assert coverages == sorted(coverages, reverse=True)


@pytest.mark.parametrize(
    ("least", "threshold"), [(0.5, 0.0), (0.75, 0.12), (0.76, 0.42), (1.0, 0.42)]
)
def test_the_lowest_threshold_that_is_precise_is_chosen(least: float, threshold: float) -> None:
    chosen = choose_threshold(coverage_curve(CURSORS), least, least_shown=1)
    assert chosen.threshold == pytest.approx(threshold)


def test_a_single_sure_mistake_does_not_decide() -> None:
    """It made the last threshold of all the recommended one, at which nothing was ever shown."""
    curve = coverage_curve([*CURSORS, cursor(0.98, False)])
    assert choose_threshold(curve, 0.6, least_shown=3).threshold == pytest.approx(0.12)


def test_a_fall_at_the_end_of_the_curve_does_not_decide() -> None:
    """What is left of right lines becomes too short to count: 0.6 was chosen for it over 0.26."""
    falling = [*[True] * 10, *[False] * 40]
    curve = coverage_curve([falling, [True] * 50])
    assert curve[-1].precision == 0.5
    assert choose_threshold(curve, 0.75, least_shown=2).threshold == 0.0


def test_where_no_threshold_is_good_enough_it_is_the_best() -> None:
    curve = coverage_curve([*CURSORS, cursor(0.9, False)])
    assert choose_threshold(curve, 0.9, least_shown=4).threshold == pytest.approx(0.42)


def test_a_cursor_without_a_verdict_for_each_threshold_is_refused() -> None:
    for verdicts in ([], [[True]]):
        with pytest.raises(ValueError, match="50 verdicts"):
            coverage_curve(verdicts)


@pytest.mark.parametrize(
    ("text", "truth", "verdict"),
    [
        ("return x", "return x  ", True),
        ("return x\n    y", "return x", True),
        ("return", "return x", True),
        ("ret", "return x", False),
        (")", ")", True),
        ("return y", "return x", False),
        ("", "return x", None),
        (" \n", "x", None),
    ],
)
def test_a_line_or_a_beginning_worth_accepting_is_right(
    text: str, truth: str, verdict: bool | None
) -> None:
    assert judge(text, truth) is verdict


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    curve = coverage_curve(CURSORS)
    draw_curve(curve, choose_threshold(curve), "a model", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
