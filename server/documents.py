r"""Open documents, kept in step with the editor's edits: lines of code points, without line ends.

A line ends at `\r\n`, `\n` or `\r` and nowhere else; other separators of Unicode (form feed,
U+2028) stand inside a line. An edit costs as much as the lines it touches, whatever the size of the
document. This module does not know the protocol, its units or its messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STEP_LINES = 64
"""A cut prefix starts at a multiple of this line number, so that its start rests while one types.
Guessed: about one screen."""

_LINE_END = re.compile(r"(\r\n|\n|\r)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in a document: line from 0, column in code points from the line's start."""

    line: int
    column: int


class Document:
    """The text of one open document."""

    __slots__ = ("_ends", "_lines", "language", "n_chars", "uri", "version")

    def __init__(self, *, uri: str, language: str, version: int, text: str) -> None:
        self.uri = uri
        self.language = language
        self.version = version
        self._lines: list[str] = []
        self._ends: list[str] = []
        self.n_chars = 0
        self.set_text(text)

    def set_text(self, text: str) -> None:
        """Take another text as a whole."""
        self._lines, self._ends = _split(_paired(text))
        self.n_chars = _count(self._lines) - 1

    @property
    def text(self) -> str:
        """The whole text with its own line ends."""
        return "".join(line + end for line, end in zip(self._lines, self._ends, strict=True))

    @property
    def lf_text(self) -> str:
        """The whole text with LF line ends."""
        return "\n".join(self._lines)

    @property
    def n_lines(self) -> int:
        """At least 1: an empty document has one empty line."""
        return len(self._lines)

    @property
    def line_end(self) -> str:
        """The document's own line end, as its first line has it; LF if it has one line."""
        return self._ends[0] or "\n"

    def line(self, index: int) -> str:
        """Return a line without its end."""
        return self._lines[index]

    def clamp(self, point: Point) -> Point:
        """Return the nearest place that exists, at or before the given one."""
        if point.line >= len(self._lines):
            return Point(len(self._lines) - 1, len(self._lines[-1]))
        if point.line < 0:
            return Point(0, 0)
        return Point(point.line, max(0, min(point.column, len(self._lines[point.line]))))

    def replace(self, start: Point, end: Point, text: str) -> None:
        """Put `text` in place of what stands between two places; both are clamped."""
        start, end = sorted((self.clamp(start), self.clamp(end)))
        first, last = start.line, end.line
        head = self._lines[first][: start.column]
        if start.column == 0 and first > 0 and self._ends[first - 1] == "\r":
            first -= 1  # The new text may begin with the \n that makes this a \r\n.
            head = self._lines[first] + "\r"
        tail = self._lines[last][end.column :] + self._ends[last]
        lines, ends = _split(_joined(_joined(head, _paired(text)), tail))
        if self._ends[last]:  # The split sees an empty line behind the last line end.
            del lines[-1], ends[-1]
        self.n_chars += _count(lines) - _count(self._lines[first : last + 1])
        self._lines[first : last + 1] = lines
        self._ends[first : last + 1] = ends

    def around(self, point: Point, *, n_before: int, n_after: int) -> tuple[str, str]:
        """Return the text before and after a place, with LF line ends and no lone surrogates.

        Args:
            point: the cursor; clamped.
            n_before: wanted length of the prefix. A longer one is cut at a line start where it
                has one; it may have up to four times the wanted length, so that the cut
                can rest while lines are added.
            n_after: greatest length of the suffix, which is cut anywhere.
        """
        point = self.clamp(point)
        return self._before(point, n_before), self._after(point, n_after)

    def _before(self, point: Point, n_chars: int) -> str:
        line = self._lines[point.line]
        if point.column > 2 * n_chars:  # A line too long to be taken whole.
            step = max(1, n_chars // 2)
            column = (point.column - n_chars) // step * step
            return _without_surrogates(line[column : point.column])
        first, length = point.line, point.column
        while first > 0 and (length < n_chars or first % STEP_LINES):
            more = len(self._lines[first - 1]) + 1
            if length + more > 4 * n_chars:
                break
            first, length = first - 1, length + more
        lines = [*self._lines[first : point.line], line[: point.column]]
        return _without_surrogates("\n".join(lines))

    def _after(self, point: Point, n_chars: int) -> str:
        line = self._lines[point.line]
        parts = [line[point.column : point.column + n_chars]]
        length, index = len(parts[0]), point.line + 1
        while index < len(self._lines) and length < n_chars:
            parts.append(self._lines[index][:n_chars])
            length, index = length + len(parts[-1]) + 1, index + 1
        return _without_surrogates("\n".join(parts)[:n_chars])


class Documents:
    """The open documents, by URI."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents.values())

    def open(self, document: Document) -> None:
        """Keep a document; one of the same URI is replaced."""
        self._documents[document.uri] = document

    def get(self, uri: str) -> Document | None:
        """Return an open document, never one from the disk."""
        return self._documents.get(uri)

    def close(self, uri: str) -> bool:
        """Forget a document; return whether it was open."""
        return self._documents.pop(uri, None) is not None


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the lines and their ends; the last end is empty."""
    if "\r" not in text:
        lines = text.split("\n")
        return lines, ["\n"] * (len(lines) - 1) + [""]
    pieces = _LINE_END.split(text)
    return pieces[0::2], [*pieces[1::2], ""]


def _count(lines: list[str]) -> int:
    """Count code points, every line with one for its end."""
    return sum(map(len, lines)) + len(lines)


def _paired(text: str) -> str:
    """Join surrogates that stand side by side into the one code point that they mean."""
    if text.isascii() or not _SPLIT_PAIR.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _joined(left: str, right: str) -> str:
    """Concatenate; an editor may have sent the halves of a pair in two edits."""
    if left and right and _SPLIT_PAIR.match(left[-1] + right[0]):
        return left[:-1] + _paired(left[-1] + right[0]) + right[1:]
    return left + right


def _without_surrogates(text: str) -> str:
    """Put U+FFFD for each lone surrogate: such text can be encoded, and no length changes."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
