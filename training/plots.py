"""PNG curves of what a run or a test logged. Knows log rows and matplotlib, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from training.errors import CheckpointError
from training.lr_range import RangePoint, steepest_factor

matplotlib.use("Agg")
from matplotlib import pyplot


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log.

    Raises:
        CheckpointError: the run has no log.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; a run writes it from its first steps on")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def plot_run(rows: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Draw loss, development bits per byte, learning rate and throughput over tokens."""
    steps = [r for r in rows if "loss" in r]
    dev = [r for r in rows if "dev_bits" in r]
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    tokens = [r["tokens"] / 1e6 for r in steps]
    axes[0].plot(
        tokens, [r["loss"] for r in steps], linewidth=0.8, label="training, nats per token"
    )
    axes[0].set_ylabel("loss")
    if dev:
        twin = axes[0].twinx()
        x = [r["tokens"] / 1e6 for r in dev]
        twin.plot(x, [r["dev_bits"] for r in dev], "o-", color="tab:red", markersize=3)
        twin.set_ylabel("development, bits per byte", color="tab:red")
    axes[1].plot(tokens, [r["lr_factor"] for r in steps])
    axes[1].set_ylabel("share of the peak learning rate")
    axes[2].plot(tokens, [r["tokens_per_s"] for r in steps])
    axes[2].set_ylabel("tokens per second")
    axes[2].set_xlabel("million tokens")
    axes[0].set_title(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_range(points: Sequence[RangePoint], path: Path, title: str) -> None:
    """Draw the loss over the learning-rate factor, with the steepest place marked."""
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    factors = [p.factor for p in points]
    axis.semilogx(factors, [p.loss for p in points], alpha=0.3, label="loss")
    axis.semilogx(factors, [p.smoothed for p in points], label="smoothed")
    best = steepest_factor(points)
    axis.axvline(best, linestyle="--", color="grey", label=f"steepest: {best:.2g}")
    axis.set_xlabel("factor of the config's learning rates")
    axis.set_ylabel("nats per token")
    axis.set_title(title)
    axis.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
