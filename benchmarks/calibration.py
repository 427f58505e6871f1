"""From the confidence of completions and whether they were right to the threshold for showing one.

Pure: knows neither models nor files of ours, but for the picture that it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

LEAST_PRECISION = 1 / 3
"""Share of right completions among those shown that a threshold must reach. Guessed: less is in the
way, more leaves a small model silent."""
LEAST_SHOWN = 20
"""So many completions must be shown for their precision to say anything. Guessed."""
N_STEPS = 50
THRESHOLDS = tuple(step / N_STEPS for step in range(N_STEPS))
"""From 0 to below 1, evenly spaced."""
ACCEPTED_CHARS = 5
"""A part of the line is worth accepting from this length on; as the replayed typist has it."""

Verdict = bool | None
"""Whether what was shown at a cursor is right; None: nothing was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What a threshold would show."""

    threshold: float
    coverage: float
    """Share of all cursors at which something is shown."""
    precision: float
    """Share of what is shown that is right; 1 where nothing is."""
    n_shown: int


def judge(text: str, truth: str) -> Verdict:
    """Say whether a completion is the rest of the line, or a beginning of it worth accepting.

    Args:
        text: what is shown; its first line counts. Blank is nothing.
        truth: the rest of the line.
    """
    line, truth = text.split("\n")[0].rstrip(), truth.rstrip()
    if not text.strip():
        return None
    return line == truth or (len(line) >= ACCEPTED_CHARS and truth.startswith(line))


def coverage_curve(verdicts: Sequence[Sequence[Verdict]]) -> list[CurvePoint]:
    """Return coverage and precision at each of `THRESHOLDS`.

    Args:
        verdicts: for each cursor, what was shown there at each threshold.

    Raises:
        ValueError: no cursor, or one without a verdict for each threshold.
    """
    if not verdicts or any(len(row) != N_STEPS for row in verdicts):
        raise ValueError(f"{N_STEPS} verdicts are needed for each of one cursor or more")
    curve = []
    for threshold, column in zip(THRESHOLDS, zip(*verdicts, strict=True), strict=True):
        shown = [verdict for verdict in column if verdict is not None]
        curve.append(
            CurvePoint(
                threshold=threshold,
                coverage=len(shown) / len(verdicts),
                precision=sum(shown) / len(shown) if shown else 1.0,
                n_shown=len(shown),
            )
        )
    return curve


def choose_threshold(
    curve: Sequence[CurvePoint],
    least_precision: float = LEAST_PRECISION,
    least_shown: int = LEAST_SHOWN,
) -> CurvePoint:
    """Return the lowest threshold that shows right things often enough.

    It is the first at which precision reaches `least_precision`, as far as `least_shown`
    completions are shown: the few at the end of the curve would make it a lottery. Precision may
    fall again after it, where what is left of a right line is too short to be worth accepting. If
    no threshold is good enough, it is the one with the best precision.
    """
    judged = [point for point in curve if point.n_shown >= least_shown] or [curve[0]]
    good = (point for point in judged if point.precision >= least_precision)
    return next(good, max(judged, key=lambda point: point.precision))


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
