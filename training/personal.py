"""From a user's repository to a model that is served: fine-tune, refuse or keep, export.

The checkpoint and the bundle stay in the user's data directory, readable by the user alone. Knows
where things lie and in which order they happen; learning and judging stand in `finetune`.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from training.card import table
from training.checkpoint import foretype_facts, save_model
from training.errors import CheckpointError, FinetuneError
from training.evaluate import load_named
from training.finetune import Finetuned, Method, finetune
from training.judging import Judgement, gain
from training.repository import SplitBy, read_repository

logger = logging.getLogger(__name__)

# The embedded bundle, which carries its weights beside the graph.
EMBEDDED = Path(__file__).parents[1] / "server" / "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one fine-tuning command was asked for."""

    path: Path
    base: Path = EMBEDDED
    method: Method = "lora"
    minutes: float = 10.0
    split_by: SplitBy | None = None
    name: str = ""
    seed: int = 1
    exports: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where the result lies, and the table of before and after."""

    checkpoint: Path
    bundle: Path | None
    name: str
    report: str


def data_folder() -> Path:
    """Return where the user's models live; the server looks for `models/NAME` there."""
    return platformdirs.user_data_path("foretype", appauthor=False)


def personalize(request: Request) -> Outcome:
    """Fine-tune on a repository and put the result where the server finds it by name.

    Raises:
        FinetuneError: too little text, or the result is no better; what was served stays.
        CheckpointError: the base cannot be read, or the export failed.
    """
    repository = read_repository(request.path.resolve(), request.split_by)
    base = load_named("base", request.base)
    tuned = finetune(
        base,
        repository,
        method=request.method,
        minutes=request.minutes,
        seed=request.seed,
    )
    since = f", lines added since {repository.since[:10]}" if repository.since else ""
    report = report_of(tuned, f"split by {repository.split_by}{since}")
    logger.info("judged:\n%s", report)
    if (refusal := tuned.refusal()) is not None:
        raise FinetuneError(f"the result is refused and nothing was changed. {refusal}\n{report}")
    name = request.name or default_name(request.path)
    checkpoint = data_folder() / "checkpoints" / name
    _private(checkpoint)
    facts = foretype_facts("private: learned from the user's own code", "README.md")
    if base.order is None:  # The base does not fill in, so what it became does not, either.
        del facts["fim"]
    else:
        facts["fim"] = {**_object(facts["fim"]), "order": base.order}
    (checkpoint / "README.md").write_text(f"# {name}\n\n{report}\n", encoding="utf-8")
    save_model(checkpoint, tuned.model, base.tokenizer, facts, torch.float16)
    bundle = data_folder() / "models" / name if request.exports else None
    if bundle is not None:
        _export(checkpoint, bundle, base.order or "none")
    return Outcome(checkpoint=checkpoint, bundle=bundle, name=name, report=report)


def default_name(path: Path) -> str:
    """Return a folder's name as a bundle's name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-.")
    return plain or "mine"


def report_of(tuned: Finetuned, split: str) -> str:
    """Return the table of before and after, with how it was measured."""

    def row(label: str, j: Judgement) -> list[str]:
        accuracy = j.own.n_right / max(1, j.own.n_tokens)
        figures = (j.own.bits_per_byte, accuracy, j.exact_share, j.keys_saved.value)
        return [label, *(f"{f:.3f}" for f in (*figures, j.general.bits_per_byte))]

    head = ["", "bits per byte", "token accuracy", "em_line", "keystrokes saved"]
    head += ["general bits per byte"]
    rows = [row("before", tuned.before), row("after", tuned.after)]
    return (
        table(head, rows)
        + f"\n\n{tuned.before.own.n_tokens} held-back tokens, {tuned.before.n_points} cursors, "
        + f"{tuned.before.typed[:, 1].sum():.0f} keystrokes in {len(tuned.before.typed)} lines "
        + f"({split}); {tuned.n_steps} steps, {tuned.seconds:.0f} s. "
        + f"Gain in keystrokes saved: {gain(tuned.before, tuned.after):.3f} "
        + "(95 %, pairs of lines resampled)."
    )


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)


def _export(checkpoint: Path, bundle: Path, fim_order: str) -> None:
    """Export in a process of its own: training and export meet on disk only."""
    command = [sys.executable, "-m", "export", str(checkpoint), "--output", str(bundle)]
    command += ["--fim-order", fim_order]
    # A bundle of the same name is replaced in one step, once the new one is whole and checked.
    done = subprocess.run([*command, "--name", bundle.name], check=False)
    if done.returncode != 0:
        raise CheckpointError(
            f"the fine-tuned checkpoint is at {checkpoint}, but `{' '.join(command)}` failed; "
            "the bundle that was served before, if any, is unchanged"
        )
    os.chmod(bundle, 0o700)
