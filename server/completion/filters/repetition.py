"""Where a text begins to repeat itself or what stands before it."""

from __future__ import annotations

import re

from server.completion.filters.chain import Draft
from server.completion.languages import first_line, last_line, without_half_word

_REPEATED_PIECE = re.compile(r"(\S.{2,30}?)\1{4,}|(\S.{9,60}?)\2{2,}")
_REPEATED_CHARACTER = re.compile(r"([^\s=#*/~_.-])\1{9,}|(\S)\2{79,}")
_REPEATED_LINES = 3


def cut_repetition(draft: Draft) -> str:
    """Cut where the text begins to repeat: the line above, a line, a group of lines, a piece.

    The first of the repeated parts stays, unless it repeats what stands before the cursor, or is
    one character.
    """
    text = draft.text
    above = [line for line in draft.prefix.rsplit("\n", 40)[:-1][-40:] if line.strip()]
    cursor_line = last_line(draft.prefix)
    first = cursor_line + first_line(text)
    if above and is_telling(first) and first.rstrip() == above[-1].rstrip():
        return ""
    text = _cut_repeated_lines(text, cursor_line, above)
    run = _REPEATED_CHARACTER.search(text)
    if run:
        return without_half_word(text, run.start())
    for match in _REPEATED_PIECE.finditer(text):
        piece = match.group(1) or match.group(2)
        if any(c.isalnum() for c in piece):
            return without_half_word(text, match.start() + len(piece))
    return text


def _cut_repeated_lines(text: str, cursor_line: str, above: list[str]) -> str:
    """Cut before a line, or a pair or triple of lines, that comes again and again."""
    lines = text.split("\n")
    whole = [*above[-_REPEATED_LINES:], cursor_line + lines[0], *lines[1:]]
    n_above = len(whole) - len(lines)
    for index in range(n_above, len(whole)):
        for size in (1, 2, 3):
            n_repeats = _REPEATED_LINES if size == 1 else 2
            if _repeats(whole, index, size, n_repeats):
                kept = index - n_above - size * (n_repeats - 1) + 1
                return "\n".join(lines[: max(kept, 0)])
    return text


def _repeats(lines: list[str], last: int, size: int, n_repeats: int) -> bool:
    """Whether the group of `size` lines that ends at `last` stands there `n_repeats` times."""
    first = last + 1 - size * n_repeats
    if first < 0:
        return False
    group = [line.rstrip() for line in lines[last + 1 - size : last + 1]]
    if not all(is_telling(line) for line in group):
        return False
    return all(
        [line.rstrip() for line in lines[at : at + size]] == group
        for at in range(first, last, size)
    )


def is_telling(line: str) -> bool:
    """Whether a line says enough for its repetition to be noticed: more than a bracket."""
    return sum(c.isalnum() for c in line) >= 3
