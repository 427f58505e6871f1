"""Reads a file of a workspace as a stranger's: no link, no pipe, no device, no more than a bound.

What stands in a folder was put there by anyone: a pipe would never end, nor would `/dev/zero`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

# Without O_NONBLOCK the opening of a pipe waits for its writer. Windows has neither flag.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def read_regular_file(location: Path, max_bytes: int) -> bytes | None:
    """Return a file's bytes; None: there is none, it is no regular file, or larger."""
    try:
        with open(location, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(max_bytes + 1)
    except OSError:
        return None
    return data if len(data) <= max_bytes else None


Stamp = tuple[int, int]
"""When a file was changed, in nanoseconds, and its size in bytes."""


def stamp(location: Path) -> Stamp | None:
    """Return what changes with a file; None: there is none."""
    try:
        status = location.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def is_without_links(location: Path) -> bool:
    """Return whether a file or folder is where its path says, not where a link leads."""
    try:
        return location.resolve() == location
    except (OSError, RuntimeError):  # Python before 3.13 raises the latter for a loop of links.
        return False


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)
