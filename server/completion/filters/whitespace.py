"""Indentation as the document has it, and nothing that is only white space or a single key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from server.completion.filters.chain import Draft
from server.completion.languages import is_comment_line, last_line

_INDENTED_LINES = 400
"""Lines above the cursor from which the step of indentation is told (guessed)."""


def match_indentation(draft: Draft) -> str:
    """Give the lines the document's indentation: tabs for spaces, no odd space, no double space.

    Where the document has spaces, a line that is indented by tabs ends the completion: a filter
    never makes a text longer.
    """
    text = _match_first_line(draft)
    lines = text.split("\n")
    uses_tabs = _uses_tabs(draft.prefix + draft.suffix[:2000])
    unit = indent_unit(draft.prefix)
    for index, line in enumerate(lines[1:], 1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if uses_tabs is False and "\t" in indent:
            return "\n".join(lines[:index])
        if uses_tabs:
            indent = indent.replace(" " * 4, "\t").replace(" " * 2 + "\t", "\t")
        elif unit in (2, 4) and len(indent) % 2 and not line.lstrip().startswith("*"):
            indent = indent[1:]
        lines[index] = indent + line.lstrip(" \t")
    return "\n".join(lines)


def indent_unit(text: str) -> int:
    """Return the spaces of one indentation step in a text: 2, 4, 8, or 0 if not clear."""
    above, newline, line = text.rpartition("\n")
    widths = _indents([line])
    if newline:
        widths += _indents_above(above)
    if not widths:
        return 0
    for unit in (8, 4, 2):
        if sum(n for width, n in widths.items() if width % unit == 0) >= 0.9 * widths.total():
            return unit
    return 0


@lru_cache(maxsize=8)
def _indents_above(text: str) -> Counter[int]:
    """Count widths of indentation once: they are asked for again with every piece that a completion
    grows by, and with every key that is typed below. The counts are not to be changed.
    """
    return _indents(text.rsplit("\n", _INDENTED_LINES - 1))


def _indents(lines: Iterable[str]) -> Counter[int]:
    """Count the widths of indentation by spaces; a comment's column of stars is none."""
    return Counter(
        len(line) - len(line.lstrip(" "))
        for line in lines
        if line.startswith(" ") and not line.lstrip().startswith("*")
    )


def _uses_tabs(text: str) -> bool | None:
    """Whether indented lines begin with tabs; None where no line is indented."""
    n_tabs = text.count("\n\t") + text.startswith("\t")
    n_spaces = text.count("\n  ") + text.startswith("  ")
    return None if n_tabs == n_spaces else n_tabs > n_spaces


def _match_first_line(draft: Draft) -> str:
    """Drop spaces that the cursor's line has already, or that miss the document's indentation."""
    line = last_line(draft.prefix)
    text = draft.text
    n_spaces = len(text) - len(text.lstrip(" "))
    if not n_spaces or text[n_spaces : n_spaces + 1] in ("", "\n"):
        return text
    if line.strip():
        is_aligned = line[-1] not in " \t" or is_comment_line(text, draft.language)
        return text if is_aligned else text.lstrip(" ")
    unit = indent_unit(draft.prefix) or 2
    surplus = (len(line.expandtabs(4)) + n_spaces) % unit
    return text[min(surplus, n_spaces) :]


def drop_blank(draft: Draft) -> str:
    """Drop white space from the end, and a text that is nothing else or takes one key to type: to
    accept it would cost as much. Who asks gets that one too.
    """
    text = draft.text.rstrip()
    is_one_key = len(text.strip()) == 1 and text.isascii()
    return "" if is_one_key and not draft.is_explicit else text
