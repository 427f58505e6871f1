"""Which brackets and quotes a piece of text closes that were open before it.

Reads characters, not a grammar: strings end at their line's end, comments are read as code. Good
enough to tell the bracket that the editor inserted from one that the completion needs itself.
"""

from __future__ import annotations

from functools import lru_cache

from server.completion.languages import language_facts

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_CLOSERS = frozenset(_OPENERS.values())
_QUOTES = "\"'`"
SCANNED_LINES = 300
"""Lines above the cursor in which an open bracket is looked for (guessed)."""


class _Scanner:
    """What is open, innermost last: the closing characters that are waited for."""

    def __init__(self, *, has_quotes: bool) -> None:
        self.waiting: list[str] = []
        self._has_quotes = has_quotes
        self._previous = ""
        self._templates: list[bool] = []
        """For each open quote, whether `{` or `${` inside it opens code."""

    def read(self, char: str) -> bool:
        """Read a character; return whether it closes something that is not waited for."""
        previous, self._previous = self._previous, char
        if self._is_in_string:
            self._read_in_string(char, previous)
        elif char == "\n":
            pass
        elif char in _OPENERS:
            self.waiting.append(_OPENERS[char])
        elif char in _CLOSERS:
            return not self._close(char)
        elif self._has_quotes and char in _QUOTES and not _is_apostrophe(char, previous):
            self.waiting.append(char)
            self._templates.append(char == "`" or previous in ("f", "F"))
        return False

    @property
    def _is_in_string(self) -> bool:
        return bool(self.waiting) and self.waiting[-1] in _QUOTES

    def _read_in_string(self, char: str, previous: str) -> None:
        quote = self.waiting[-1]
        if (char == quote and previous != "\\") or (char == "\n" and quote != "`"):
            self.waiting.pop()
            self._templates.pop()
        elif char == "{" and self._templates[-1] and (previous == "$" or quote != "`"):
            self.waiting.append("}")
        elif char == "\\" and previous == "\\":
            self._previous = ""  # An escaped backslash escapes nothing.

    def _close(self, char: str) -> bool:
        for place in range(len(self.waiting) - 1, -1, -1):
            if self.waiting[place] in _QUOTES:
                return False
            if self.waiting[place] == char:
                del self.waiting[place:]
                return True
        return False


def outer_closers(text: str, cursor_line: str, language: str) -> list[int]:
    """Return the places in a text where something closes that was open before the text.

    Args:
        text: generated text.
        cursor_line: the cursor's line up to the cursor, for an open string.
        language: prose has no quotes that must close.
    """
    scanner = _Scanner(has_quotes=not language_facts(language).is_prose)
    for char in cursor_line:
        scanner.read(char)
    n_outer = len(scanner.waiting)
    places = []
    for place, char in enumerate(text):
        closes_nothing = scanner.read(char)
        n_waiting = len(scanner.waiting)
        if closes_nothing or (n_waiting < n_outer and char != "\n"):
            places.append(place)
        n_outer = min(n_outer, n_waiting)
    return places


def standing_closer(cursor_line: str, rest: str) -> str:
    """Return the closing character right after the cursor, if the line needs no other of its kind.

    Empty: there is none, or the rest of the line lacks one that is open, so that the text may still
    begin with it.

    Args:
        cursor_line: the cursor's line up to the cursor.
        rest: the line's rest.
    """
    if not rest:
        return ""
    if quote := open_quote(cursor_line):
        return quote if rest[0] == quote else ""
    if rest[0] not in _CLOSERS:
        return ""
    waiting = _open_brackets(cursor_line)
    n_closers = len(rest) - len(rest.lstrip("".join(_CLOSERS)))
    return rest[0] if n_closers >= len(waiting) else ""


def open_quote(line: str) -> str:
    """Return the quote of the string that is still open at a line's end; empty: none is."""
    scanner = _Scanner(has_quotes=True)
    for char in line:
        scanner.read(char)
    return scanner.waiting[-1] if scanner.waiting and scanner.waiting[-1] in _QUOTES else ""


def ends_in_comment(line: str, language: str) -> bool:
    """Whether a comment begins in a line, after a space and outside strings, and goes on."""
    start, end = language_facts(language).line_comment
    if not start:
        return False
    scanner = _Scanner(has_quotes=True)
    for place, char in enumerate(line):
        is_start = line.startswith(start, place) and (place == 0 or line[place - 1].isspace())
        if is_start and not (scanner.waiting and scanner.waiting[-1] in _QUOTES):
            return not end or end not in line[place:]
        scanner.read(char)
    return False


def open_brackets(prefix: str) -> list[str]:
    """Return the closing brackets that the text before the cursor still waits for, outermost first.

    Looks at the last lines only, so brackets that opened far above may be missing.
    """
    return list(_open_brackets("\n".join(prefix.rsplit("\n", SCANNED_LINES)[-SCANNED_LINES:])))


@lru_cache(maxsize=8)
def _open_brackets(text: str) -> tuple[str, ...]:
    """Read a text once: it is asked for again with every piece that a completion grows by."""
    scanner = _Scanner(has_quotes=True)
    for char in text:
        scanner.read(char)
    return tuple(closer for closer in scanner.waiting if closer in _CLOSERS)


def _is_apostrophe(char: str, previous: str) -> bool:
    """Whether a quote stands in a word (`don't`) or names a lifetime (`&'a`): no string opens."""
    is_in_word = previous.isalnum() and previous not in "rbfuRBFU"
    return char == "'" and (is_in_word or previous in ("&", "<"))
