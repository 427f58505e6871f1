"""The training loop: steps of a trainer until schedule or time end, checkpoints and a log out.

A run is a folder; it can be stopped at any moment and goes on from its last whole checkpoint as if
nothing had happened. Knows nothing of what a step does.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from tokenizers import Tokenizer

from training.checkpoint import (
    foretype_facts,
    latest_step,
    learned_of,
    load_weights,
    read_step,
    save_step,
)
from training.config import Config, ScheduleConfig, as_table
from training.errors import CheckpointError, DivergedError
from training.model import n_parameters
from training.optimizers import state_tensors
from training.run_log import LOG, NoLog, RunLog
from training.schedules import advanced, lr_factor
from training.trainer import Data, Trainer

logger = logging.getLogger(__name__)

LICENCE = "Apache-2.0"
# Steps whose mean duration tells how many more fit into the time.
PACE_STEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one call of `train` does, beside the config."""

    run: Path
    resumes: bool = False
    # A checkpoint to branch off with a fresh schedule that falls to zero.
    cooldown_from: Path | None = None
    # A released checkpoint or bundle to go on from, warming up anew: what lasts between machines.
    continue_from: Path | None = None
    minutes: float | None = None
    n_steps: int | None = None


def train(config: Config, tokenizer: Tokenizer, data: Data, plan: Plan) -> Trainer:
    """Run until the schedule ends, the time is spent, or a signal asks to stop.

    Returns:
        The trainer as it stands; its last step is on disk.

    Raises:
        CheckpointError: there is nothing to resume, something to overwrite, or no room.
        DivergedError: the loss is no number; the message names the last good checkpoint.
    """
    trainer = Trainer(config, tokenizer, data)
    schedule = _start(trainer, config, plan)
    plan.run.mkdir(parents=True, exist_ok=True)
    logger.info(
        "%s: %d parameters, %.1f M tokens per epoch, from step %d",
        config.name,
        n_parameters(trainer.model),
        trainer.batches.epoch_tokens / 1e6,
        trainer.state.step,
    )
    log = RunLog(plan.run) if trainer.processes.is_main else NoLog()
    try:
        with log, _stop_on_signal() as stop:
            _run(trainer, schedule, plan, log.write, stop)
    finally:
        trainer.processes.leave()
    return trainer


def _start(trainer: Trainer, config: Config, plan: Plan) -> ScheduleConfig:
    """Bring the trainer to where the plan begins and return the schedule that applies."""
    newest = latest_step(plan.run)
    if newest is not None:
        if not plan.resumes:
            raise CheckpointError(
                f"{plan.run} holds a run already ({newest.name}); resume it with --resume, "
                "or choose another folder"
            )
        trainer.restore(read_step(newest, trainer.model))
    elif plan.cooldown_from is not None:
        branch = latest_step(plan.cooldown_from) or plan.cooldown_from
        trainer.restore(read_step(branch, trainer.model))
        _take_over_log(plan.cooldown_from, plan.run, trainer.state.step)
        trainer.state = dataclasses.replace(
            trainer.state, schedule_step=0, progress=0.0, elapsed_s=0.0
        )
    elif plan.continue_from is not None:
        # Source: Wen et al. 2024, "Understanding Warmup-Stable-Decay Learning Rates", 2410.05192:
        # a run that goes on from cooled weights (WSD-S) loses nothing against the stable branch.
        load_weights(plan.continue_from, trainer.model)
        trainer.state = learned_of(plan.continue_from)
    elif plan.resumes:
        raise CheckpointError(f"{plan.run} holds no whole checkpoint to resume from")
    if plan.cooldown_from is not None:
        return ScheduleConfig(kind="linear", warmup_steps=0)
    return config.schedule


def _take_over_log(source: Path, run: Path, step: int) -> None:
    """Begin a branch's log with what led to it, so that it tells a model's whole life."""
    if not (source / LOG).is_file():
        return
    rows = (source / LOG).read_text(encoding="utf-8").splitlines()
    run.mkdir(parents=True, exist_ok=True)
    led_here = [row + "\n" for row in rows if row.strip() and json.loads(row)["step"] <= step]
    (run / LOG).write_text("".join(led_here), encoding="utf-8")


def _run(
    trainer: Trainer,
    schedule: ScheduleConfig,
    plan: Plan,
    write: Callable[[dict[str, float]], None],
    stop: threading.Event,
) -> None:
    run = trainer.config.run
    n_steps = plan.n_steps or run.n_steps
    began = time.monotonic() - trainer.state.elapsed_s
    saved_at = time.monotonic()
    pace: list[float] = []
    losses: list[float] = []
    is_asked_to_stop = False
    while trainer.state.progress < 1.0 and not is_asked_to_stop:
        at = time.monotonic()
        factor = lr_factor(schedule, trainer.state.schedule_step, trainer.state.progress)
        cursor = trainer.state.cursor
        try:
            loss, norm = trainer.step(factor)
        except DivergedError as exc:
            good = latest_step(plan.run)
            raise DivergedError(f"{exc}; the last good checkpoint is {good or 'none'}") from exc
        now = time.monotonic()
        n_tokens = trainer.state.cursor - cursor
        pace = [*pace[1 - PACE_STEPS :], now - at]
        losses.append(loss)
        left = n_steps - trainer.state.schedule_step + 1.0
        if plan.minutes is not None:
            # The first steps are slow (compilation): the middle of the pace counts, not its mean.
            left = (plan.minutes * 60 - (at - began)) / float(np.median(pace))
        left = trainer.processes.said_by_main(left)
        is_asked_to_stop = bool(trainer.processes.said_by_main(stop.is_set()))
        is_last = left <= 1.0
        trainer.state = dataclasses.replace(
            trainer.state,
            progress=1.0 if is_last else advanced(trainer.state.progress, left),
            elapsed_s=now - began,
        )
        step = trainer.state.step
        trainer.follow_load()
        if step % run.log_every_steps == 0 or is_last:
            write(_row(trainer, losses, pace, n_tokens=n_tokens, factor=factor, norm=norm))
            losses.clear()
        if step % run.eval_every_steps == 0 or is_last:
            bits = trainer.dev_bits()
            best = min(bits, trainer.state.best_bits)
            trainer.state = dataclasses.replace(trainer.state, best_bits=best)
            write({"step": step, "tokens": trainer.state.cursor, "dev_bits": round(bits, 4)})
        is_due = time.monotonic() - saved_at >= run.checkpoint_every_s
        if trainer.processes.is_main and (is_last or is_asked_to_stop or is_due):
            save(trainer, plan.run)
            saved_at = time.monotonic()


def _row(
    trainer: Trainer,
    losses: Sequence[float],
    pace: Sequence[float],
    *,
    n_tokens: int,
    factor: float,
    norm: float,
) -> dict[str, float]:
    """Return what the log says of the last step, and of those since its last row."""
    return {
        "step": trainer.state.step,
        "tokens": trainer.state.cursor,
        "loss": round(float(np.mean(losses)), 4),
        "lr_factor": round(factor, 5),
        "grad_norm": round(norm, 3),
        "tokens_per_s": round(n_tokens / float(np.median(pace))),
        "progress": round(trainer.state.progress, 5),
        "elapsed_s": round(trainer.state.elapsed_s, 1),
    }


def save(trainer: Trainer, run: Path) -> Path:
    """Write the trainer's step to its run."""
    return save_step(
        run,
        trainer.model,
        trainer.tokenizer,
        foretype_facts(LICENCE),
        state=trainer.state,
        optimizer=state_tensors(trainer.model, trainer.optimizers),
        record={"config": as_table(trainer.config), "torch": torch.__version__},
    )


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM end the run after the current step, with a checkpoint."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
