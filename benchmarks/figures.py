"""What a measurement leaves: figures with their spread, and ratios of what was interleaved.

Pure: knows neither clocks nor files nor what was measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured quantity of one subject, as a spread of n values."""

    subject: str
    """Whose it is: a backend, a peer, the server, the machine."""
    name: str
    unit: str
    n: int
    median: float
    p95: float
    low: float
    high: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One subject's quantity over another's, measured in turn: one value per round."""

    name: str
    subject: str
    over: str
    n: int
    median: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all do not exceed, by linear interpolation.

    Args:
        values: at least one.
        share: in [0, 1].

    Raises:
        ValueError: there are no values, or the share is out of range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def figure(subject: str, name: str, unit: str, values: Sequence[float], detail: str = "") -> Figure:
    """Sum up values.

    Raises:
        ValueError: there are none.
    """
    return Figure(
        subject=subject,
        name=name,
        unit=unit,
        n=len(values),
        median=percentile(values, 0.5),
        p95=percentile(values, 0.95),
        low=min(values),
        high=max(values),
        detail=detail,
    )


def ratio(
    name: str, subject: str, values: Sequence[float], over: str, others: Sequence[float]
) -> Ratio:
    """Compare two subjects round by round, so that what slowed one round slowed both.

    Raises:
        ValueError: the rounds do not pair up, or there are none.
    """
    per_round = [value / other for value, other in zip(values, others, strict=True)]
    return Ratio(
        name=name,
        subject=subject,
        over=over,
        n=len(per_round),
        median=statistics.median(per_round),
        low=min(per_round),
        high=max(per_round),
    )


def as_json(records: Sequence[Figure | Ratio]) -> list[dict[str, Any]]:
    """Return records as JSON objects, numbers rounded to what a measurement can tell."""
    return [
        {key: rounded(value) for key, value in asdict(record).items() if value != ""}
        for record in records
    ]


def rounded(value: Any, n_digits: int = 4) -> Any:
    """Return a float with few significant digits; anything else as it is."""
    return float(f"{value:.{n_digits}g}") if isinstance(value, float) else value


def find(figures: Sequence[Mapping[str, Any]], subject: str, name: str) -> Mapping[str, Any] | None:
    """Return the figure of a subject by its name, or None."""
    for one in figures:
        if (one["subject"], one["name"]) == (subject, name):
            return one
    return None
