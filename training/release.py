"""Two things that leave a run: a checkpoint to ship, and a small archive to go on from.

A released checkpoint is a Hugging Face folder in fp16 with its card; `python -m export` reads it.
An archive is a step with fp16 weights and bf16 optimizer averages, half the size and good to resume
from; what rounding loses, a few hundred steps learn again. Knows nothing of servers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.card import model_card
from training.checkpoint import (
    LATEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    TrainState,
    foretype_facts,
    latest_step,
    load_model,
    save_model,
    write_atomically,
)
from training.errors import CheckpointError
from training.loop import LICENCE
from training.model import Gpt2, n_parameters
from training.plots import plot_run, read_log
from training.run_log import LOG

CURVE = "learning.png"


def release(
    run: Path,
    output: Path,
    *,
    corpus: Path,
    results: Sequence[Path],
    usefulness: Sequence[Path] = (),
    commands: Sequence[str],
    remarks: Sequence[str] = (),
) -> Path:
    """Write the last step of a run as an fp16 checkpoint folder with its card.

    Raises:
        CheckpointError: the run has no whole step, or is no GPT-2.
    """
    step = latest_step(run) or run
    model, tokenizer = load_model(step)
    if not isinstance(model, Gpt2):
        raise CheckpointError(f"{step} is a recurrent baseline; only a GPT-2 is released")
    saved = json.loads((step / STATE).read_text(encoding="utf-8"))
    learned = TrainState(**saved["state"])
    save_model(
        output, model, tokenizer, foretype_facts(LICENCE, "README.md", learned), torch.float16
    )
    config = model.network.config
    rows = read_log(run / LOG) if (run / LOG).is_file() else []
    sizes = {k: getattr(config, k) for k in ("n_layer", "n_head", "n_embd", "n_positions")}
    card = model_card(
        name=saved["record"]["config"]["name"],
        sizes={**sizes, "n_vocab": config.vocab_size, "parameters": n_parameters(model)},
        run={
            "step": learned.step,
            "tokens": learned.cursor,
            "hours": hours_of(rows),
        },
        curve=CURVE if rows else "",
        corpus=json.loads((corpus / "summary.json").read_text(encoding="utf-8")),
        results=[json.loads(path.read_text(encoding="utf-8")) for path in results],
        usefulness=[json.loads(path.read_text(encoding="utf-8")) for path in usefulness],
        commands=commands,
        remarks=remarks,
    )
    (output / "README.md").write_text(card, encoding="utf-8")
    if rows:
        plot_run(rows, output / CURVE, saved["record"]["config"]["name"])
    return output


def hours_of(rows: Sequence[Mapping[str, float]]) -> float:
    """Return the wall time that a log tells, in hours; a branch counts its time from zero."""
    seconds = [row["elapsed_s"] for row in rows if "elapsed_s" in row]
    ends = [now for now, after in pairwise([*seconds, 0.0]) if after < now]
    return sum(ends) / 3600


def archive(run: Path, output: Path) -> Path:
    """Copy the last step of a run into a new run folder, at half the size.

    Raises:
        CheckpointError: the run has no whole step.
    """
    step = latest_step(run)
    if step is None:
        raise CheckpointError(f"{run} holds no whole checkpoint to archive")
    target = output / step.name
    shutil.copytree(step, target, dirs_exist_ok=True)
    weights = load_file(step / WEIGHTS)
    save_file(
        {k: v.half() for k, v in weights.items()}, target / WEIGHTS, metadata={"format": "pt"}
    )
    # bf16, because squared gradients are far below what fp16 can hold.
    averages = load_file(step / OPTIMIZER)
    small = {
        k: v.bfloat16() if v.is_floating_point() and v.ndim else v for k, v in averages.items()
    }
    save_file(small, target / OPTIMIZER)
    if (run / LOG).is_file():
        shutil.copy(run / LOG, output / LOG)
    write_atomically(output / LATEST, target.name + "\n")
    return target
