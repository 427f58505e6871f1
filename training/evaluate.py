"""Figures on held-out packages: how well models predict, and how many lines they complete.

Every system sees the same files and the same cursors. Knows no training.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from tokenizers import Tokenizer
from torch import nn

from server.bundle import MEMORY_FILE
from server.decoding.memory.coefficients import Coefficients, read_coefficients
from training.ablation import ablate, labelled
from training.checkpoint import load_model
from training.completers import BASELINES, Completer, model_completer
from training.corpus import read_split
from training.cutpoints import CutPoint, HeldOutFile, choose_cut_points, choose_files
from training.errors import CheckpointError, CorpusError
from training.fim import Order
from training.likelihood import Score, score_text
from training.metrics import (
    Interval,
    bootstrap,
    common_prefix_share,
    corpus_bleu,
    corpus_chrf,
    edit_similarity,
    exact_match,
    mean_of_column,
    normalized_match,
    ratio_of_columns,
)
from training.model import Gpt2
from training.ngram import NgramModel
from training.tokenizer import encode, end_id, fills_in
from training.workspace import WorkspaceProtocol, recollect, workspace_files

NGRAM_ORDER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is measured on, and how much of it."""

    split: str = "dev"
    files_per_package: int = 12
    chars: tuple[int, int] = (2000, 40_000)
    # Of each file, so many characters from its beginning are scored.
    scored_chars: int = 9000
    n_points: int = 400
    seed: int = 7
    n_ctx: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A trained network under the name that it has in tables."""

    name: str
    model: nn.Module
    tokenizer: Tokenizer
    # How it fills in the middle; None reads left to right only.
    order: Order | None
    # How much the memory of the workspace counts beside it.
    coefficients: Coefficients = Coefficients()  # noqa: RUF009 - frozen


def load_named(name: str, folder: Path) -> NamedModel:
    """Read a model and the order in which it fills in the middle.

    A checkpoint tells it in `foretype.json`, an exported bundle in `manifest.json`; PSM otherwise.
    """
    model, tokenizer = load_model(folder)
    order: Order | None = "psm" if isinstance(model, Gpt2) and fills_in(tokenizer) else None
    for file in (folder / "foretype.json", folder / "manifest.json"):
        if file.is_file():
            facts = json.loads(file.read_text(encoding="utf-8"))
            facts = facts.get("special_tokens", facts)
            stated = (facts.get("fim") or {}).get("order")
            order = stated if stated in ("psm", "spm") else None
            break
    return NamedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        order=order,
        coefficients=load_coefficients(folder),
    )


def load_coefficients(folder: Path) -> Coefficients:
    """Read what `calibrate` wrote beside a checkpoint; the defaults if it wrote nothing.

    Raises:
        CheckpointError: the file makes no sense.
    """
    file = folder / MEMORY_FILE
    if not file.is_file():
        return Coefficients()
    try:
        return read_coefficients(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{file} can't be read ({exc}); calibrate again") from exc


def evaluate(
    models: Sequence[NamedModel],
    corpus: Path,
    protocol: Protocol,
    ngram_tokens: tuple[np.ndarray, Tokenizer] | None = None,
    *,
    with_memory: bool = False,
) -> dict[str, object]:
    """Measure models and baselines, and return everything as plain values.

    Args:
        models: trained networks.
        corpus: the folder that the corpus command wrote.
        protocol: files, cursors and window.
        ngram_tokens: training ids and their tokenizer, for the n-gram model; None leaves it out.
        with_memory: also measure each network with the memory of document and workspace.

    Raises:
        CorpusError: the split has no file of the size asked for.
    """
    rows = list(read_split(corpus, protocol.split))
    files = choose_files(
        rows, per_package=protocol.files_per_package, chars=protocol.chars, seed=protocol.seed
    )
    if not files:
        raise CorpusError(
            f"the {protocol.split} split has no Python file of {protocol.chars} chars"
        )
    points = choose_cut_points(files, n_points=protocol.n_points, seed=protocol.seed)
    likelihood: dict[str, object] = {}
    lines: dict[str, object] = {}
    for named in models:
        scores = [
            score_text(
                named.model, named.tokenizer, f.text[: protocol.scored_chars], n_ctx=protocol.n_ctx
            )
            for f in track(files, f"{named.name}: likelihood")
        ]
        likelihood[named.name] = summarize_likelihood(files, scores)
        # Both ways of reading: whether the suffix helps is a figure, too.
        for order in dict.fromkeys((named.order, None)):
            label = f"{named.name}, {order or 'left to right'}"
            completer = model_completer(named.model, named.tokenizer, order)
            lines[label] = measure_lines(label, completer, points)
    if ngram_tokens is not None:
        name = f"{NGRAM_ORDER}-gram"
        scores = _ngram_scores(files, protocol, *ngram_tokens)
        likelihood[name] = summarize_likelihood(files, scores)
    for name, completer in BASELINES.items():
        lines[name] = measure_lines(name, completer, points)
    memory: dict[str, object] = {}
    if with_memory:
        for named in models:
            memory |= _memory_scores(named, rows, protocol)
    return {
        "protocol": asdict(protocol),
        "files": [f"{f.package}/{f.path}" for f in files],
        "n_points": len(points),
        "likelihood": likelihood,
        "memory": memory,
        "lines": lines,
    }


def _memory_scores(
    named: NamedModel, rows: Sequence[dict[str, str]], protocol: Protocol
) -> dict[str, object]:
    """Return the likelihood of a network alone, with the document, and with the workspace."""
    own = WorkspaceProtocol(
        files_per_package=protocol.files_per_package,
        chars=protocol.chars,
        scored_chars=protocol.scored_chars,
        n_ctx=protocol.n_ctx,
        seed=protocol.seed,
    )
    files = workspace_files(rows, own)
    recollections = recollect(named.model, named.tokenizer, rows, files, own)
    scores = ablate(
        track(recollections, f"{named.name}: memory"), named.coefficients, n_files=len(files)
    )
    return {
        label: summarize_likelihood(files, each) for label, each in labelled(named.name, scores)
    }


def _ngram_scores(
    files: Sequence[HeldOutFile], protocol: Protocol, ids: np.ndarray, tokenizer: Tokenizer
) -> list[Score]:
    model = NgramModel(ids, NGRAM_ORDER, tokenizer.get_vocab_size())
    scores = []
    for file in files:
        text = file.text[: protocol.scored_chars]
        own = np.array([end_id(tokenizer), *encode(tokenizer, text)])
        nats, n_right = model.score(own)
        n_bytes = len(text.encode())
        scores.append(Score(nats=nats, n_bytes=n_bytes, n_right=n_right, n_tokens=len(own) - 1))
    return scores


def summarize_likelihood(
    files: Sequence[HeldOutFile], scores: Sequence[Score]
) -> dict[str, object]:
    """Return bits per byte and token accuracy with intervals, over all and per package."""
    packages = sorted({f.package for f in files})
    by_package = {
        p: [s.row for f, s in zip(files, scores, strict=True) if f.package == p] for p in packages
    }
    groups = {"all": [s.row for s in scores]} | by_package
    return {
        name: {
            "bits_per_byte": asdict(bootstrap(rows, ratio_of_columns(0, 1, 1 / math.log(2)))),
            "token_accuracy": asdict(bootstrap(rows, ratio_of_columns(2, 3))),
            "n_tokens": int(sum(r[0, 3] for r in rows)),
            "n_files": len(rows),
        }
        for name, rows in groups.items()
    }


def measure_lines(name: str, completer: Completer, points: Sequence[CutPoint]) -> dict[str, object]:
    """Complete every cursor's line and return the figures, with intervals over files."""
    began = time.perf_counter()
    predicted = [completer(p.prefix, p.suffix) for p in track(points, f"{name}: lines")]
    seconds = time.perf_counter() - began
    truth = [p.truth for p in points]
    rows = np.array(
        [
            (
                exact_match(text, p.truth),
                normalized_match(text, p.truth),
                edit_similarity(text, p.truth),
                common_prefix_share(text, p.truth),
                float(bool(text.strip())),
            )
            for text, p in zip(predicted, points, strict=True)
        ]
    )
    owner = np.array([p.file for p in points])
    groups = [rows[owner == file] for file in sorted(set(owner.tolist()))]
    bleu, bleu_signature = corpus_bleu(predicted, truth)
    chrf, chrf_signature = corpus_chrf(predicted, truth)
    places = np.array([p.place for p in points])
    names = ("em_line", "em_norm", "edit_similarity", "prefix_share", "shown")
    figures: dict[str, Interval] = {
        key: bootstrap(groups, mean_of_column(column)) for column, key in enumerate(names)
    }
    return {
        **{key: asdict(interval) for key, interval in figures.items()},
        "em_line_by_place": {
            str(place): float(rows[places == place, 0].mean()) for place in np.unique(places)
        },
        "bleu": bleu,
        "bleu_signature": bleu_signature,
        "chrf": chrf,
        "chrf_signature": chrf_signature,
        "seconds_per_line": seconds / max(1, len(points)),
    }
