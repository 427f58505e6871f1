"""A network, its optimizers and where it stands in its data: what one step of learning is.

One trainer for every network and for fine-tuning. Knows nothing of how text became tokens, nor of
folders, clocks and logs.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch.nn import functional

from training.batches import IGNORED, Batches
from training.checkpoint import Checkpoint, TrainState
from training.config import Config
from training.errors import DivergedError
from training.model import build_model
from training.optimizers import build_optimizers, load_state_tensors, set_lr
from training.precision import matmul_dtype
from training.processes import Processes
from training.threads import OtherWork, threads_beside
from training.tokenizer import bytes_per_id, end_id

logger = logging.getLogger(__name__)


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
        self.processes = Processes()
        self.device = self.processes.device
        if model is None:
            end = end_id(tokenizer)
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
        self._network = self.processes.spread(self.model)
        self._loss: Callable[[Tensor, Tensor], Tensor] = self._plain_loss
        if config.run.compiles:
            # So that compiled steps follow `set_num_threads`, as all others do.
            inductor_config.cpp.dynamic_threads = True
            self._loss = torch.compile(self._plain_loss, dynamic=False)
        self._dev = eval_windows(data.dev, config.model.n_ctx, config.run.n_eval_windows)
        self._bytes_per_id = torch.from_numpy(bytes_per_id(tokenizer))

    def _plain_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        logits = self._network(ids)
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
        first_row, n_rows = self.processes.share(stage.n_rows)
        start = self.state.cursor + first_row * stage.n_ctx
        ids, labels = self.batches.batch(start, n_rows, stage.n_ctx)
        self.model.train()
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = self._loss(
                torch.from_numpy(ids).to(self.device), torch.from_numpy(labels).to(self.device)
            )
        # Rows have unequal numbers of labels; each label of the batch counts the same.
        n_labels = float((labels != IGNORED).sum())
        loss = loss * (n_labels / max(1.0, self.processes.mean(n_labels)))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optimizer.grad_clip or math.inf
        )
        value, norm_value = self.processes.mean(loss.item()), float(norm)
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
