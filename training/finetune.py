"""Fine-tuning on a user's own code: learn, compare with the base, keep only what is better.

Three methods, from cheap to thorough: `last-layer` moves the last block, `lora` adds low-rank
matrices and merges them, `full` moves everything. Against forgetting, a share of general code is
read along, and of what was learned only as much is kept as general code can bear. Nothing leaves
the machine. Knows repositories and networks; exporting is a command of
its own.
"""

from __future__ import annotations

import copy
import logging
import random
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from peft import LoraConfig, get_peft_model
from rich.progress import Progress
from tokenizers import Tokenizer
from torch import nn

from training.config import (
    Config,
    CorpusConfig,
    FimConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    Stage,
)
from training.errors import FinetuneError
from training.evaluate import NamedModel
from training.interpolation import between, largest_share
from training.judging import Judgement, judge, score_texts
from training.model import Gpt2
from training.packing import pack
from training.repository import Repository, clean
from training.schedules import advanced, lr_factor
from training.tokenizer import fills_in
from training.trainer import Data, Trainer

logger = logging.getLogger(__name__)

Method = Literal["lora", "full", "last-layer"]

# Peak rates for AdamW. LoRA's matrices begin at zero and want more; from the LoRA papers' range for
# small models, then tried on this project's own history.
PEAK_LR: dict[Method, float] = {"lora": 2e-3, "full": 4e-4, "last-layer": 1e-3}
LORA_RANK = 16
REPLAY_SHARE = 0.25
N_EPOCHS = 3
N_ROWS = 4
LEAST_TRAIN_BYTES = 20_000
LEAST_HELD_BACK_LINES = 20
# A result is refused if held-back lines gain less than this, or general code loses more.
LEAST_GAIN = 0.01
MOST_LOSS = 0.03
GENERAL_FILES = 12
GENERAL_CHARS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """The tuned network (merged), and both judgements."""

    model: nn.Module
    before: Judgement
    after: Judgement
    n_steps: int
    seconds: float
    """Of learning; judging came on top."""
    share: float = 1.0
    """Of the way from the base to what was learned."""

    def refusal(self) -> str | None:
        """Return why the result must not be served, or None if it may."""
        own_before, own = self.before.own.bits_per_byte, self.after.own.bits_per_byte
        general_before = self.before.general.bits_per_byte
        general = self.after.general.bits_per_byte
        if own > own_before * (1 - LEAST_GAIN):
            return (
                f"held-back lines: {own_before:.3f} before, {own:.3f} bits per byte after; "
                f"at least {LEAST_GAIN:.0%} less is asked for"
            )
        if general > general_before * (1 + MOST_LOSS):
            return (
                f"general code: {general_before:.3f} before, {general:.3f} bits per byte after; "
                f"at most {MOST_LOSS:.0%} more is allowed"
            )
        return None


def general_texts(seed: int, replay_chars: int) -> tuple[list[str], list[str]]:
    """Return general code to read along and to judge by: this Python's standard library.

    Modules, not files, are dealt to the two sides; both are part of what the base was trained on.
    No more is read than `replay_chars` of the one and `GENERAL_FILES` of the other.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = [
        p
        for p in sorted(root.rglob("*.py"))
        if "packages" not in str(p)
        and not {"test", "tests", "idlelib", "lib2to3"} & set(p.relative_to(root).parts)
    ]
    random.Random(seed).shuffle(paths)
    replay: list[str] = []
    judged: list[str] = []
    for path in paths:
        is_judged = random.Random(path.relative_to(root).parts[0]).random() < 0.3
        if (is_judged and len(judged) == GENERAL_FILES) or (not is_judged and replay_chars <= 0):
            continue
        text = clean(path.read_bytes())
        if text is None:
            continue
        if is_judged:
            judged.append(text[:GENERAL_CHARS])
        else:
            replay.append(text)
            replay_chars -= len(text)
    return replay, judged


def finetune(
    base: NamedModel,
    repository: Repository,
    *,
    method: Method,
    minutes: float,
    seed: int = 1,
    n_threads: int = 0,
    general: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Finetuned:
    """Tune a copy of the base on the repository, within the time.

    Args:
        base: a GPT-2; it stays as it is.
        repository: what is learned from and judged by.
        method: what moves.
        minutes: of training; judging comes on top.
        seed: of the order and the cuts.
        n_threads: 0 follows the machine's load.
        general: texts to read along and to judge by; the standard library if None.

    Raises:
        FinetuneError: too little to learn from or to judge by, or the base is no GPT-2.
    """
    if not isinstance(base.model, Gpt2):
        raise FinetuneError("only a GPT-2 is fine-tuned; this checkpoint is a recurrent baseline")
    _check_size(repository)
    replay_chars = int(repository.train_bytes * REPLAY_SHARE / (1 - REPLAY_SHARE))
    replay, judged = general or general_texts(seed, replay_chars)
    before = judge(base, repository.held_back, judged, seed)
    model = copy.deepcopy(base.model)
    merge = prepare(model, method)
    ids = _tokens(base.tokenizer, repository.train, replay, seed)
    began = time.monotonic()
    n_steps = _learn(model, base.tokenizer, ids, method, minutes, seed, n_threads)
    seconds = time.monotonic() - began
    merge()
    model.requires_grad_(True).eval()
    bearable = before.general.bits_per_byte * (1 + MOST_LOSS)

    def is_bearable(share: float) -> bool:
        nearer = replace(base, model=between(base.model, model, share))
        return score_texts(nearer, judged).bits_per_byte <= bearable

    share = largest_share(is_bearable)
    tuned = replace(base, model=between(base.model, model, share))
    return Finetuned(
        model=tuned.model,
        before=before,
        after=judge(tuned, repository.held_back, judged, seed),
        n_steps=n_steps,
        seconds=seconds,
        share=share,
    )


def _check_size(repository: Repository) -> None:
    if repository.train_bytes < LEAST_TRAIN_BYTES:
        raise FinetuneError(
            f"{repository.train_bytes} bytes of fit Python are too little to learn from; "
            f"at least {LEAST_TRAIN_BYTES} are needed"
        )
    n_lines = sum(len(h.lines) for h in repository.held_back)
    if n_lines < LEAST_HELD_BACK_LINES:
        raise FinetuneError(
            f"only {n_lines} lines are held back to judge by, at least {LEAST_HELD_BACK_LINES} are "
            "needed; try the other --split"
        )


def prepare(model: Gpt2, method: Method) -> Callable[[], None]:
    """Freeze what the method leaves alone; return a function that merges what it added."""
    network = model.network
    if method == "full":
        return lambda: None
    if method == "last-layer":
        network.requires_grad_(False)
        network.transformer.h[-1].requires_grad_(True)
        network.transformer.ln_f.requires_grad_(True)
        return lambda: None
    adapters = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0.05,
        target_modules=["c_attn", "c_proj", "c_fc"],
        fan_in_fan_out=True,  # GPT-2's Conv1D keeps its weights as [in, out]
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(network, adapters)

    def merge() -> None:
        model.network = wrapped.merge_and_unload()

    return merge


def _tokens(
    tokenizer: Tokenizer, own: Sequence[str], replay: Iterable[str], seed: int
) -> np.ndarray:
    """Return packed ids of the repository and of as much general code as the share says."""
    texts = list(own)
    room = int(sum(map(len, own)) * REPLAY_SHARE / (1 - REPLAY_SHARE))
    for text in replay:
        if room <= 0:
            break
        texts.append(text[:room])
        room -= len(text)
    random.Random(seed).shuffle(texts)
    return pack(tokenizer, texts, "fine-tuning")


def _learn(
    model: Gpt2,
    tokenizer: Tokenizer,
    ids: np.ndarray,
    method: Method,
    minutes: float,
    seed: int,
    n_threads: int,
) -> int:
    sizes = model.network.config
    n_ctx = min(sizes.n_positions, 512)
    config = Config(
        name=method,
        folder=Path(),
        corpus=CorpusConfig(manifest=""),
        model=ModelConfig(
            n_layer=sizes.n_layer, n_head=sizes.n_head, n_embd=sizes.n_embd, n_ctx=n_ctx
        ),
        fim=FimConfig() if fills_in(tokenizer) else FimConfig(rate=0.0),
        stages=(Stage(from_step=0, n_rows=N_ROWS, n_ctx=n_ctx),),
        optimizer=OptimizerConfig(kind="adamw", lr=PEAK_LR[method], weight_decay=0.01),
        schedule=ScheduleConfig(kind="linear", warmup_steps=20),
        run=RunConfig(seed=seed, n_threads=n_threads, n_eval_windows=1),
    )
    trainer = Trainer(config, tokenizer, Data(train=ids, dev=ids), model=model)
    wanted = max(1, N_EPOCHS * trainer.batches.epoch_tokens // (N_ROWS * n_ctx))
    end = time.monotonic() + minutes * 60
    progress, step = 0.0, 0
    with Progress() as bars:
        bar = bars.add_task(f"fine-tuning ({method})", total=1.0)
        while progress < 1.0:
            began = time.monotonic()
            trainer.step(lr_factor(config.schedule, step, progress))
            step += 1
            trainer.follow_load()
            now = time.monotonic()
            left = min(wanted - step + 1.0, 1.0 + (end - now) / max(1e-6, now - began))
            progress = 1.0 if left <= 1.0 else advanced(progress, left)
            bars.update(bar, completed=progress)
    return step
