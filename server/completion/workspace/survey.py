"""How much of a folder an engine learns, for a report: counts only, no text and no path."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.completion.engine import CancelToken, MemoryInfo, WorkspaceFile
from server.completion.workspace.files import WorkspaceFolder
from server.completion.workspace.reading import BATCH_CHARS, MAX_FILES, Learner
from server.options import Options

PATIENCE_S = 10.0
"""Somebody waits for the report. Guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was learned of a folder."""

    memory: MemoryInfo
    seconds: float
    is_whole: bool
    """Whether all was learned before the time was up."""


def survey(
    folder: Path,
    options: Options,
    learner: Learner,
    memory: Callable[[], MemoryInfo],
    patience_s: float = PATIENCE_S,
) -> Survey:
    """Let an engine's memory learn a folder as the server would, without giving way to anybody.

    Args:
        folder: the workspace.
        options: say what is denied.
        learner: takes the texts in.
        memory: says what it knows.
        patience_s: after which no more is read.
    """
    started = time.perf_counter()
    workspace = WorkspaceFolder(folder, options.denied_paths)
    batch: list[WorkspaceFile] = []
    n_chars, n_files, is_whole = 0, 0, True
    for path in workspace.walk():
        is_whole = time.perf_counter() - started < patience_s and n_files < MAX_FILES
        if not is_whole:
            break
        if (text := workspace.read(path)) is not None:
            batch.append(WorkspaceFile(path=path, text=text))
            n_chars += len(text)
            n_files += 1
        if n_chars >= BATCH_CHARS:
            learner.learn(batch, CancelToken())
            batch, n_chars = [], 0
    learner.learn(batch, CancelToken())
    return Survey(memory=memory(), seconds=time.perf_counter() - started, is_whole=is_whole)
