"""Which brackets and quotes a piece of text closes that were open before it.

Reads characters, not a grammar: strings end at their line's end, comments are read as code. Good
enough to tell the bracket that the editor inserted from one that the completion needs itself.
"""

from __future__ import annotations

import re
from functools import lru_cache

from server.completion.languages import language_facts

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_CLOSERS = frozenset(_OPENERS.values())
_QUOTES = "\"'`"
_MEANING = re.compile(r"[][(){}\"'`\n\\]")
"""The characters that a scanner does more with than to remember the last one."""
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

    def copy(self) -> _Scanner:
        """Return a scanner that goes on from here by itself."""
        other = _Scanner(has_quotes=self._has_quotes)
        other.waiting, other._templates = [*self.waiting], [*self._templates]
        other._previous = self._previous
        return other

    def read_all(self, text: str) -> None:
        """Read a text, whatever its characters close."""
        end = 0
        for found in _MEANING.finditer(text):
            if found.start() > end:
                self._previous = text[found.start() - 1]
            self.read(found.group())
            end = found.end()
        if end < len(text):
            self._previous = text[-1]

    @property
    def open_brackets(self) -> list[str]:
        """The closing brackets that are waited for, outermost first."""
        return [closer for closer in self.waiting if closer in _CLOSERS]

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
    scanner.read_all(cursor_line)
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
    scanner = _Scanner(has_quotes=True)
    scanner.read_all(cursor_line)
    n_closers = len(rest) - len(rest.lstrip("".join(_CLOSERS)))
    return rest[0] if n_closers >= len(scanner.open_brackets) else ""


def open_quote(line: str) -> str:
    """Return the quote of the string that is still open at a line's end; empty: none is."""
    scanner = _Scanner(has_quotes=True)
    scanner.read_all(line)
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
    *above, line = prefix.rsplit("\n", SCANNED_LINES)[-SCANNED_LINES:]
    scanner = _after_lines("".join(f"{line}\n" for line in above)).copy()
    scanner.read_all(line)
    return scanner.open_brackets


@lru_cache(maxsize=8)
def _after_lines(text: str) -> _Scanner:
    """Read whole lines once: they are asked for again with every piece that a completion grows by,
    and with every key that is typed below them. The scanner is not to be changed.
    """
    scanner = _Scanner(has_quotes=True)
    scanner.read_all(text)
    return scanner


def _is_apostrophe(char: str, previous: str) -> bool:
    """Whether a quote stands in a word (`don't`) or names a lifetime (`&'a`): no string opens."""
    is_in_word = previous.isalnum() and previous not in "rbfuRBFU"
    return char == "'" and (is_in_word or previous in ("&", "<"))
