"""Columns at the border: code points inside, units of the negotiated encoding outside.

The only module that knows UTF-8 and UTF-16 units. A unit in the middle of a character means the
character's start; one past the end of the line means the end.

Source: LSP 3.18, "Position" and `positionEncoding`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

PositionEncoding = Literal["utf-8", "utf-16", "utf-32"]
_ENCODINGS: dict[str, PositionEncoding] = {e: e for e in ("utf-8", "utf-16", "utf-32")}
_CODECS = {
    "utf-8": ("utf-8", "surrogateescape", 1),
    "utf-16": ("utf-16-le", "surrogatepass", 2),
}
"""Codec, error handler that lets lone surrogates through, bytes of a unit."""
_REFUSED_IN_UTF8 = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_LONGEST_CHARACTER = 4  # Units of one character, in UTF-8.


def choose_encoding(offered: Iterable[str] | None) -> PositionEncoding:
    """Return the first offered encoding that is known; UTF-16 if there is none."""
    return next((_ENCODINGS[e] for e in offered or () if e in _ENCODINGS), "utf-16")


def column_from_units(line: str, units: int, encoding: PositionEncoding) -> int:
    """Return the column in code points that an editor calls `units`.

    >>> column_from_units("😀ab", 3, "utf-16")
    2
    """
    units = max(units, 0)
    if encoding == "utf-32" or line.isascii():
        return min(units, len(line))
    codec, errors, width = _CODECS[encoding]
    line = _encodable(line, encoding)
    encoded = line.encode(codec, errors)
    if units * width >= len(encoded):
        return len(line)
    for cut in range(units, max(units - _LONGEST_CHARACTER, 0), -1):
        head = encoded[: cut * width].decode(codec, errors)
        if line.startswith(head):  # Else the cut went through a character.
            return len(head)
    return 0


def units_from_column(line: str, column: int, encoding: PositionEncoding) -> int:
    """Return what an editor calls a column in code points.

    >>> units_from_column("😀ab", 2, "utf-16")
    3
    """
    head = line[: max(column, 0)]
    if encoding == "utf-32" or head.isascii():
        return len(head)
    codec, errors, width = _CODECS[encoding]
    return len(_encodable(head, encoding).encode(codec, errors)) // width


def _encodable(text: str, encoding: PositionEncoding) -> str:
    """Put U+FFFD, of equal length, for the lone surrogates that the codec refuses.

    In UTF-8 these are all but U+DC80 to U+DCFF, which stand for bytes that are no UTF-8 and
    count as one, as the editor counts them.
    """
    return text if encoding == "utf-16" else _REFUSED_IN_UTF8.sub("\ufffd", text)
