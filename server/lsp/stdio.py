"""stdin and stdout, taken for the protocol alone.

Whatever prints, in Python or in a library's C code, prints to stderr from then on.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def take_stdio() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of the protocol, and leave stand-ins in their places."""
    reader = os.fdopen(os.dup(_STDIN), "rb")
    writer = os.fdopen(os.dup(_STDOUT), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, _STDIN)
    try:
        os.dup2(_STDERR, _STDOUT)
    except OSError:  # The editor started us without a stderr.
        os.dup2(null, _STDOUT)
    os.close(null)
    if sys.stderr is not None:
        sys.stdout = sys.stderr
    return reader, writer
