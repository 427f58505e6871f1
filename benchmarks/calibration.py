"""From the confidence of completions and whether they were right to the threshold for showing one.

Pure: knows neither models nor files of ours, but for the picture that it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

LEAST_PRECISION = 0.25
"""Share of right completions among those shown that a threshold must reach: one in four. Guessed:
less is in the way, more leaves a small model silent."""
N_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One completion: how sure it was, and whether it was right."""

    confidence: float
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What a threshold would show."""

    threshold: float
    coverage: float
    """Share of all cursors at which something is shown."""
    precision: float
    """Share of what is shown that is right; 1 where nothing is."""


def coverage_curve(outcomes: Sequence[Outcome], n_asked: int) -> list[CurvePoint]:
    """Return coverage and precision over evenly spaced thresholds from 0 to below 1.

    Args:
        outcomes: of the cursors at which there was anything to show.
        n_asked: all cursors.

    Raises:
        ValueError: fewer cursors than outcomes.
    """
    if n_asked < len(outcomes) or n_asked == 0:
        raise ValueError(f"{len(outcomes)} outcomes of {n_asked} cursors")
    curve = []
    for step in range(N_STEPS):
        threshold = step / N_STEPS
        shown = [one for one in outcomes if one.confidence >= threshold]
        n_right = sum(one.is_right for one in shown)
        curve.append(
            CurvePoint(
                threshold=threshold,
                coverage=len(shown) / n_asked,
                precision=n_right / len(shown) if shown else 1.0,
            )
        )
    return curve


def choose_threshold(
    curve: Sequence[CurvePoint], least_precision: float = LEAST_PRECISION
) -> CurvePoint:
    """Return the lowest threshold from which on precision stays at `least_precision` or above."""
    chosen = curve[-1]
    for point in reversed(curve):
        if point.precision < least_precision:
            break
        chosen = point
    return chosen


def draw_curve(curve: Sequence[CurvePoint], chosen: CurvePoint, title: str, path: Path) -> None:
    """Draw precision and coverage over the threshold into a PNG.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as exc:
        raise BenchmarkError(f"a plot needs matplotlib ({exc})") from exc
    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    thresholds = [p.threshold for p in curve]
    axes.plot(thresholds, [p.precision for p in curve], label="right, of those shown")
    axes.plot(thresholds, [p.coverage for p in curve], label="shown, of all cursors")
    axes.axvline(chosen.threshold, color="grey", linestyle=":", label="chosen")
    axes.set(xlabel="minConfidence", ylabel="share", ylim=(0, 1), title=title)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
