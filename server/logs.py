"""Where the log goes: stderr or a file, written by a thread, so that nobody waits for a reader."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import queue
import sys
import threading
import traceback
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any

from server.errors import OptionsError

LEVELS = ("debug", "info", "warning", "error")
LOG_BYTES, OLD_LOGS = 5_000_000, 3
"""A log file of this size is put aside, as `FILE.1` and so on; older ones go. Chosen: a day's work
is about one megabyte at the level `info`."""
_QUEUED_RECORDS = (
    10_000  # A reader that stops costs this many lines of memory, not a hang. Guessed.
)
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _PrivateFormatter(logging.Formatter):
    """Writes where an error came from, not what it said: that may hold text of a document."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the stack of an error and of those that it came from."""
        return stack_of(ei[1])


def stack_of(exc: BaseException | None) -> str:
    """Return a traceback without messages and without lines of source."""
    lines: list[str] = []
    told: set[int] = set()
    while exc is not None and id(exc) not in told:
        told.add(id(exc))
        lines.append(f"Traceback of {type(exc).__name__}, without its message:")
        frames = traceback.extract_tb(exc.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return "\n".join(lines)


class _DroppingHandler(logging.handlers.QueueHandler):
    """Queues a record; drops it when the queue is full."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record if there is room."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return


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
    logging.raiseExceptions = False  # A full disk costs the line, not a traceback per line.
    records: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED_RECORDS)
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    atexit.register(listener.stop)
    root = logging.getLogger()
    queued = _DroppingHandler(records)
    queued.setFormatter(_PrivateFormatter(_FORMAT))  # A record is made text before it is queued.
    root.handlers = [queued]
    root.setLevel((level or ("info" if file else "warning")).upper())
    # pygls writes what it sends and receives, documents included, and says no more than we do.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


def _log_uncaught(
    kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None
) -> None:
    """Log what nobody caught; Python would write its message to stderr, which editors keep."""
    logging.getLogger(__name__).critical("nobody caught this", exc_info=exc or kind())


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
