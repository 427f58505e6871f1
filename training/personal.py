"""From a user's repository to a model that is served: fine-tune, refuse or keep, export.

The checkpoint and the bundle stay in the user's data directory, readable by the user alone. Knows
where things lie and in which order they happen; learning and judging stand in `finetune`, what a
typist feels in `typed`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch

from server.bundle import MANIFEST_FILE, MEMORY_FILE
from training.card import table
from training.checkpoint import foretype_facts, save_model
from training.errors import CheckpointError, FinetuneError
from training.evaluate import load_named
from training.finetune import Finetuned, Method, finetune
from training.judging import Judgement
from training.repository import Repository, SplitBy, read_repository
from training.typed import choose_lines, gain, keys_saved, type_lines

logger = logging.getLogger(__name__)

# The embedded bundle, which carries its weights beside the graph.
EMBEDDED = Path(__file__).parents[1] / "server" / "embedded"
CARD = "README.md"


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
    facts = foretype_facts("private: learned from the user's own code", CARD)
    if base.order is None:  # The base does not fill in, so what it became does not, either.
        del facts["fim"]
    else:
        facts["fim"] = {**_object(facts["fim"]), "order": base.order}
    save_model(checkpoint, tuned.model, base.tokenizer, facts, torch.float16)
    if (request.base / MEMORY_FILE).is_file():  # How much the memory counts beside such a network.
        shutil.copyfile(request.base / MEMORY_FILE, checkpoint / MEMORY_FILE)
    bundle = data_folder() / "models" / name if request.exports else None
    if bundle is not None:
        fim_order = base.order or "none"
        _export(checkpoint, bundle, fim_order)
        with _served(request.base, fim_order) as base_bundle:
            report += "\n" + _typed_report(repository, base_bundle, bundle, request.seed)
    (checkpoint / CARD).write_text(f"# {name}\n\n{report}\n", encoding="utf-8")
    return Outcome(checkpoint=checkpoint, bundle=bundle, name=name, report=report)


def default_name(path: Path) -> str:
    """Return a folder's name as a bundle's name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-.")
    return plain or "mine"


def report_of(tuned: Finetuned, split: str) -> str:
    """Return the table of before and after, with how it was measured."""

    def row(label: str, judged: Judgement) -> list[str]:
        accuracy = judged.own.n_right / max(1, judged.own.n_tokens)
        figures = (judged.own.bits_per_byte, accuracy, judged.general.bits_per_byte)
        return [label, *(f"{figure:.3f}" for figure in figures)]

    head = ["", "bits per byte", "token accuracy", "general bits per byte"]
    rows = [row("before", tuned.before), row("after", tuned.after)]
    return (
        table(head, rows)
        + f"\n\n{tuned.before.own.n_tokens} held-back tokens ({split}); "
        + f"{tuned.n_steps} steps, {tuned.seconds:.0f} s; {tuned.share:.0%} of what was learned is "
        + "kept, as much as general code can bear."
    )


def _typed_report(repository: Repository, base: Path, bundle: Path, seed: int) -> str:
    lines = choose_lines(repository.held_back, seed)
    if not lines:
        return "No held-back line is long enough to be typed."
    before, after = type_lines(base, lines, "before"), type_lines(bundle, lines, "after")
    return keystrokes_report(before, after)


def keystrokes_report(before: np.ndarray, after: np.ndarray) -> str:
    """Return how many keystrokes are saved on the same lines before and after.

    Args:
        before: [lines, 2], from `type_lines`.
        after: likewise.
    """
    saved = (keys_saved(before), keys_saved(after))
    return (
        f"Keystrokes saved, as served without memory: {saved[0].value:.3f} before, "
        f"{saved[1].value:.3f} after, a gain of {gain(before, after):.3f} (95 %, pairs of lines "
        f"resampled); {before[:, 1].sum():.0f} keystrokes in {len(before)} held-back lines."
    )


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)


@contextmanager
def _served(base: Path, fim_order: str) -> Iterator[Path]:
    """Return the bundle that serves the base: itself, or an export that is gone afterwards."""
    if (base / MANIFEST_FILE).exists():
        yield base
        return
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "base"
        _export(base, bundle, fim_order)
        yield bundle


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
