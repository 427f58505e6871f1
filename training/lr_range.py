"""The learning-rate range test: raise the rate step by step and watch where the loss stops falling.

Uses the loop's own trainer and leaves no checkpoint behind.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186,
section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import DivergedError
from training.trainer import Trainer

# Weight of the past in the smoothed loss, and how far above its minimum the test gives up.
SMOOTHING = 0.9
GIVE_UP_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RangePoint:
    """One step: the factor of the config's rates, and the loss before and after smoothing."""

    factor: float
    loss: float
    smoothed: float


def lr_range_test(
    trainer: Trainer, *, n_steps: int, low: float = 1e-3, high: float = 30.0
) -> list[RangePoint]:
    """Train `n_steps` at factors rising geometrically from `low` to `high`, until it diverges."""
    points: list[RangePoint] = []
    average = 0.0
    for i, factor in enumerate(np.geomspace(low, high, n_steps).tolist()):
        try:
            loss, _ = trainer.step(factor)
        except DivergedError:
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed = average / (1 - SMOOTHING ** (i + 1))
        points.append(RangePoint(factor=factor, loss=loss, smoothed=smoothed))
        if smoothed > GIVE_UP_RATIO * min(p.smoothed for p in points):
            break
    return points


def steepest_factor(points: Sequence[RangePoint]) -> float:
    """Return the factor at which the smoothed loss falls fastest per step: a good peak rate.

    Only what lies before the minimum counts; behind it, the curve is a diverging run's.
    """
    lowest = min(range(len(points)), key=lambda i: points[i].smoothed)
    falling = points[: max(2, lowest + 1)]
    if len(falling) < 2:
        return points[0].factor
    slopes = np.diff([p.smoothed for p in falling])
    return falling[int(slopes.argmin())].factor
