"""The training loop: batches in, steps of the optimizer, checkpoints and a log out.

One loop for every network and for fine-tuning. A run is a folder; it can be stopped at any moment
and goes on from its last whole checkpoint as if nothing had happened. Knows nothing of how text
became tokens.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch.nn import functional

from training.batches import IGNORED, Batches
from training.checkpoint import (
    Checkpoint,
    TrainState,
    foretype_facts,
    latest_step,
    learned_of,
    load_weights,
    read_step,
    save_step,
)
from training.config import Config, ScheduleConfig, as_table
from training.errors import CheckpointError, DivergedError
from training.model import build_model, n_parameters
from training.optimizers import build_optimizers, load_state_tensors, set_lr, state_tensors
from training.precision import matmul_dtype
from training.schedules import advanced, lr_factor
from training.threads import OtherWork, threads_beside
from training.tokenizer import bytes_per_id, special_ids

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Tokens of the two splits that training looks at."""

    train: np.ndarray
    dev: np.ndarray


class Trainer:
    """A network, its optimizers and where it stands; `step` moves it on by one batch."""

    def __init__(
        self, config: Config, tokenizer: Tokenizer, data: Data, model: nn.Module | None = None
    ) -> None:
        """Begin at step 0, with a network of the config's sizes or one that is given."""
        self.n_cores = os.cpu_count() or 1
        self._others = OtherWork()
        torch.set_num_threads(config.run.n_threads or 1)
        torch.set_flush_denormal(True)
        self.config = config
        self.tokenizer = tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if model is None:
            end = special_ids(tokenizer).end
            n_vocab = tokenizer.get_vocab_size()
            model = build_model(config.model, n_vocab, end, config.run.seed)
        self.model = model.to(self.device)
        self._dtype, why = matmul_dtype(config.run.precision, self.device)
        logger.info("matrices are multiplied in %s: %s", self._dtype, why)
        self.optimizers = build_optimizers(self.model, config.optimizer, self._dtype)
        self.batches = Batches(
            data.train, tokenizer, config.fim, n_ctx=config.model.n_ctx, seed=config.run.seed
        )
        self.state = TrainState()
        self._loss: Callable[[Tensor, Tensor], Tensor] = self._plain_loss
        if config.run.compiles:
            # So that compiled steps follow `set_num_threads`, as all others do.
            inductor_config.cpp.dynamic_threads = True
            self._loss = torch.compile(self._plain_loss, dynamic=False)
        self._dev = eval_windows(data.dev, config.model.n_ctx, config.run.n_eval_windows)
        self._bytes_per_id = torch.from_numpy(bytes_per_id(tokenizer))

    def _plain_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(ids)
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED
        )

    def step(self, factor: float) -> tuple[float, float]:
        """Learn from the next batch at `factor` of the peak learning rate.

        Returns:
            Loss in nats per token, and the norm of the gradient before clipping.

        Raises:
            DivergedError: one of them is no finite number; weights and state are unchanged.
        """
        stage = self.config.stage_at(self.state.step)
        ids, labels = self.batches.batch(self.state.cursor, stage.n_rows, stage.n_ctx)
        self.model.train()
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = self._loss(
                torch.from_numpy(ids).to(self.device), torch.from_numpy(labels).to(self.device)
            )
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optimizer.grad_clip or math.inf
        )
        value, norm_value = loss.item(), float(norm)
        if not (math.isfinite(value) and math.isfinite(norm_value)):
            raise DivergedError(f"loss {value}, gradient {norm_value} at step {self.state.step}")
        set_lr(self.optimizers, factor)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state = dataclasses.replace(
            self.state,
            step=self.state.step + 1,
            schedule_step=self.state.schedule_step + 1,
            cursor=self.state.cursor + stage.n_rows * stage.n_ctx,
        )
        return value, norm_value

    @torch.inference_mode()
    def dev_bits(self) -> float:
        """Return bits per byte on the development windows, read left to right."""
        self.model.eval()
        nats, n_bytes = 0.0, 0
        for window in self._dev.split(8):
            ids, labels = window[:, :-1].to(self.device), window[:, 1:].to(self.device)
            logits = self.model(ids).float()
            nats += functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="sum"
            ).item()
            n_bytes += int(self._bytes_per_id[window[:, 1:]].sum())
        return nats / math.log(2) / max(1, n_bytes)

    def follow_load(self) -> None:
        """Take as many threads as other work leaves free, if the config leaves that open."""
        if self.config.run.n_threads == 0 and (n_others := self._others.n_cores()) is not None:
            n_now = torch.get_num_threads()
            n_threads = threads_beside(n_now, n_others, self.n_cores)
            if n_threads != n_now:
                torch.set_num_threads(n_threads)
                logger.debug("%d threads from here on", n_threads)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over optimizer, random state and position; the weights are in already."""
        load_state_tensors(self.model, self.optimizers, checkpoint.optimizer)
        torch.set_rng_state(checkpoint.rng)
        self.state = checkpoint.state


def eval_windows(ids: np.ndarray, n_ctx: int, n_windows: int) -> Tensor:
    """Return evenly spread windows of a split: [at most n_windows, n_ctx + 1], int64."""
    n_ctx = min(n_ctx, max(1, len(ids) - 1))
    starts = np.unique(np.linspace(0, max(0, len(ids) - n_ctx - 1), n_windows).astype(np.int64))
    rows = [np.asarray(ids[s : s + n_ctx + 1], dtype=np.int64) for s in starts]
    return torch.from_numpy(np.stack(rows))


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
    with (plan.run / LOG).open("a", encoding="utf-8") as log, _stop_on_signal() as stop:
        _run(trainer, schedule, plan, lambda row: _write_row(log, row), stop)
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
    write: Callable[[dict[str, object]], None],
    stop: threading.Event,
) -> None:
    run = trainer.config.run
    n_steps = plan.n_steps or run.n_steps
    began = time.monotonic() - trainer.state.elapsed_s
    saved_at = time.monotonic()
    pace: list[float] = []
    losses: list[float] = []
    while trainer.state.progress < 1.0 and not stop.is_set():
        at = time.monotonic()
        factor = lr_factor(schedule, trainer.state.schedule_step, trainer.state.progress)
        cursor = trainer.state.cursor
        try:
            loss, norm = trainer.step(factor)
        except DivergedError as exc:
            good = latest_step(plan.run)
            raise DivergedError(f"{exc}; the last good checkpoint is {good or 'none'}") from exc
        now = time.monotonic()
        pace = [*pace[1 - PACE_STEPS :], now - at]
        losses.append(loss)
        left = n_steps - trainer.state.schedule_step + 1.0
        if plan.minutes is not None:
            # The first steps are slow (compilation): the middle of the pace counts, not its mean.
            left = (plan.minutes * 60 - (at - began)) / float(np.median(pace))
        is_last = left <= 1.0
        trainer.state = dataclasses.replace(
            trainer.state,
            progress=1.0 if is_last else advanced(trainer.state.progress, left),
            elapsed_s=now - began,
        )
        step = trainer.state.step
        trainer.follow_load()
        if step % run.log_every_steps == 0 or is_last:
            n_tokens = trainer.state.cursor - cursor
            write(
                {
                    "step": step,
                    "tokens": trainer.state.cursor,
                    "loss": round(float(np.mean(losses)), 4),
                    "lr_factor": round(factor, 5),
                    "grad_norm": round(norm, 3),
                    "tokens_per_s": round(n_tokens / float(np.median(pace))),
                    "progress": round(trainer.state.progress, 5),
                    "elapsed_s": round(trainer.state.elapsed_s, 1),
                }
            )
            losses.clear()
        if step % run.eval_every_steps == 0 or is_last:
            bits = trainer.dev_bits()
            best = min(bits, trainer.state.best_bits)
            trainer.state = dataclasses.replace(trainer.state, best_bits=best)
            write({"step": step, "tokens": trainer.state.cursor, "dev_bits": round(bits, 4)})
        if is_last or stop.is_set() or time.monotonic() - saved_at >= run.checkpoint_every_s:
            save(trainer, plan.run)
            saved_at = time.monotonic()


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


def _write_row(log: object, row: dict[str, object]) -> None:
    log.write(json.dumps(row) + "\n")  # type: ignore[attr-defined]
    log.flush()  # type: ignore[attr-defined]
    logger.info("%s", " ".join(f"{k} {v}" for k, v in row.items()))


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
