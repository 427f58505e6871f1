"""Where the log goes: stderr or a file, written by a thread, so that nobody waits for a reader."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import queue
import traceback
from io import TextIOWrapper
from pathlib import Path

from server.errors import OptionsError

LEVELS = ("debug", "info", "warning", "error")
LOG_BYTES, OLD_LOGS = 5_000_000, 3
"""A log file of this size is put aside, as `FILE.1` and so on; older ones go. Chosen: a day's work
is about one megabyte at the level `info`."""
_QUEUED_RECORDS = (
    10_000  # A reader that stops costs this many lines of memory, not a hang. Guessed.
)
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _DroppingHandler(logging.handlers.QueueHandler):
    """Queues a record; drops it when the queue is full."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record if there is room."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return


def told(exc: BaseException) -> str:
    """Return what failed and where, without the message: it may hold text of a document."""
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return type(exc).__name__ + where


def configure(file: str, level: str) -> None:
    """Send the log of the whole process to a file, or to stderr if none is named.

    Args:
        file: path; created readable by its owner alone, appended to, put aside when it is long.
        level: one of `LEVELS`; empty: `info` for a file, else `warning`.

    Raises:
        OptionsError: the file can't be opened.
    """
    handler: logging.Handler = logging.StreamHandler()
    if file:
        handler = _file_handler(Path(file))
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.raiseExceptions = False  # A full disk costs the line, not a traceback per line.
    records: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED_RECORDS)
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    atexit.register(listener.stop)
    root = logging.getLogger()
    root.handlers = [_DroppingHandler(records)]
    root.setLevel((level or ("info" if file else "warning")).upper())
    # pygls writes what it sends and receives, documents included, and says no more than we do.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _PrivateFileHandler(logging.handlers.RotatingFileHandler):
    """A log that its owner alone can read, also after it was begun anew."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8")


def _file_handler(path: Path) -> logging.Handler:
    try:
        return _PrivateFileHandler(path, maxBytes=LOG_BYTES, backupCount=OLD_LOGS)
    except OSError as exc:
        raise OptionsError(f"--log-file {path} can't be opened: {exc.strerror}") from exc
