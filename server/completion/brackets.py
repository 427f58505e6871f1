"""Which brackets and quotes a piece of text closes that were open before it.

Reads characters, not a grammar: strings end at their line's end, comments are read as code. Good
enough to tell the bracket that the editor inserted from one that the completion needs itself.
"""

from __future__ import annotations

from server.completion.languages import language_facts

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_CLOSERS = {closer: opener for opener, closer in _OPENERS.items()}
_QUOTES = "\"'`"
_SCANNED_LINES = 300
"""Lines above the cursor in which an open bracket is looked for (guessed)."""


def outer_closers(text: str, cursor_line: str, language: str) -> list[int]:
    """Return the places in a text where something closes that was open before the text.

    Args:
        text: generated text.
        cursor_line: the cursor's line up to the cursor, for an open string.
        language: prose has no quotes that must close.
    """
    has_quotes = not language_facts(language).is_prose
    quote = open_quote(cursor_line) if has_quotes else ""
    quote_is_outer = bool(quote)
    depth = {opener: 0 for opener in _OPENERS}
    places: list[int] = []
    previous = cursor_line[-1:]
    for place, char in enumerate(text):
        if quote:
            if char == quote and previous != "\\":
                if quote_is_outer:
                    places.append(place)
                quote = ""
            elif char == "\n":
                quote = ""
        elif char in _OPENERS:
            depth[char] += 1
        elif char in _CLOSERS:
            opener = _CLOSERS[char]
            if depth[opener]:
                depth[opener] -= 1
            else:
                places.append(place)
        elif has_quotes and _starts_string(char, previous):
            quote, quote_is_outer = char, False
        previous = char
    return places


def open_quote(line: str) -> str:
    """Return the quote of the string that is still open at a line's end; empty: none is."""
    quote = ""
    previous = ""
    for char in line:
        if quote:
            if char == quote and previous != "\\":
                quote = ""
        elif _starts_string(char, previous):
            quote = char
        previous = char
    return quote


def open_brackets(prefix: str) -> list[str]:
    """Return the closing brackets that the text before the cursor still waits for, outermost first.

    Looks at the last lines only, so brackets that opened far above may be missing.
    """
    waiting: list[str] = []
    for line in prefix.rsplit("\n", _SCANNED_LINES)[-_SCANNED_LINES:]:
        quote = ""
        previous = ""
        for char in line:
            if quote:
                if char == quote and previous != "\\":
                    quote = ""
            elif char in _OPENERS:
                waiting.append(_OPENERS[char])
            elif waiting and char == waiting[-1]:
                waiting.pop()
            elif _starts_string(char, previous):
                quote = char
            previous = char
    return waiting


def _starts_string(char: str, previous: str) -> bool:
    """Whether a quote opens a string: an apostrophe in a word (`don't`) does not."""
    return char in _QUOTES and not (
        char == "'" and previous.isalnum() and previous not in "rbfuRBFU"
    )
