"""How the learning rate moves: pure functions from progress to a factor of the peak.

`progress` is the share of the run that is done, in [0, 1]; warm-up counts steps, because what it
protects against (the optimizer's empty averages) does.
"""

from __future__ import annotations

import math

from training.config import ScheduleConfig


def constant() -> float:
    """Stay at the peak."""
    return 1.0


def linear(progress: float, final_share: float = 0.0) -> float:
    """Fall in a straight line from 1 to `final_share`."""
    return 1.0 - (1.0 - final_share) * progress


def cosine(progress: float, final_share: float = 0.0) -> float:
    """Fall along half a cosine from 1 to `final_share`.

    Source: Loshchilov and Hutter 2017, "SGDR", arXiv:1608.03983, without restarts.
    """
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))


def step(progress: float, every: float, factor: float) -> float:
    """Multiply by `factor` after each `every` of the run."""
    # The small term keeps 3 * 0.25 from landing a hair under 0.75.
    return float(factor ** math.floor(progress / every + 1e-9))


def warmup_stable_decay(progress: float, cooldown_share: float) -> float:
    """Stay at the peak, then fall in a straight line to zero over the last `cooldown_share`.

    Source: Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", arXiv:2405.18392.
    """
    if cooldown_share <= 0.0:
        return 1.0
    return min(1.0, max(0.0, (1.0 - progress) / cooldown_share))


def lr_factor(config: ScheduleConfig, n_done: int, progress: float) -> float:
    """Return the factor of the peak learning rate for the next step.

    Args:
        config: which schedule, and its numbers.
        n_done: steps done since the schedule began.
        progress: share of the run that is done, in [0, 1].
    """
    progress = min(1.0, max(0.0, progress))
    warmup = min(1.0, (n_done + 1) / config.warmup_steps) if config.warmup_steps > 0 else 1.0
    match config.kind:
        case "constant":
            factor = constant()
        case "linear":
            factor = linear(progress, config.final_share)
        case "cosine":
            factor = cosine(progress, config.final_share)
        case "step":
            factor = step(progress, config.step_every, config.step_factor)
        case "wsd":
            factor = warmup_stable_decay(progress, config.cooldown_share)
    return warmup * factor


def advanced(progress: float, remaining_steps: float) -> float:
    """Return the progress after one more step, if `remaining_steps` are left including it.

    With an exact count this is `step / n_steps`; with an estimate from the clock it bends so that
    the schedule ends when the time does.
    """
    return progress + (1.0 - progress) / max(1.0, remaining_steps)
