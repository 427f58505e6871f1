"""What a run tells while it goes on: JSON lines, the terminal, and TensorBoard where installed.

The JSON lines are the record that plots and cards are made from; the rest is for watching.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
"""Folder of a run that `tensorboard --logdir` shows."""


class NoLog:
    """Keeps nothing: for the processes that only help."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open."""

    def write(self, row: dict[str, float]) -> None:
        """Take one row: `step`, and whatever was measured at it."""


class RunLog(NoLog):
    """Appends to a run's log; a resumed run goes on where the log ends."""

    def __init__(self, run: Path) -> None:
        self._lines = (run / LOG).open("a", encoding="utf-8")
        self._board = _board(run / TENSORBOARD)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._lines.close()
        if self._board is not None:
            self._board.close()

    def write(self, row: dict[str, float]) -> None:
        """Write one row; it is on disk when this returns."""
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        logger.info("%s", " ".join(f"{k} {v}" for k, v in row.items()))
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, row["step"])


def _board(folder: Path) -> Any:
    """Return TensorBoard's writer, or None where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
