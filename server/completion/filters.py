"""What happens to a completion before it is shown: small pure functions on text.

A filter is given a `Draft` and returns the text to show: never longer than the draft's, empty for
nothing. Filters are plugins of the group `foretype.filters`; `options.filters` says which run and
in which order. Nothing here knows tokens, the protocol or the other filters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from server.completion.brackets import SCANNED_LINES, open_brackets, open_quote, outer_closers
from server.completion.languages import (
    first_line,
    is_comment_line,
    language_facts,
    last_line,
    line_below,
    without_half_word,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A completion that a filter may shorten, and the text around it."""

    text: str
    prefix: str
    suffix: str
    language: str = "plaintext"


Filter = Callable[[Draft], str]


class FilterChain:
    """Filters in their order. One that breaks its contract is left out from then on.

    Args:
        filters: names and functions.
        on_broken: is told the name of a filter that broke its contract, and how.
    """

    def __init__(
        self, filters: Iterable[tuple[str, Filter]], on_broken: Callable[[str, str], None]
    ) -> None:
        self._filters = list(filters)
        self._on_broken = on_broken

    def __call__(self, draft: Draft) -> str:
        """Return what is left of a draft after all filters."""
        for name, apply in list(self._filters):
            if not draft.text:
                break
            text, complaint = _applied(apply, draft)
            if complaint:
                self._filters.remove((name, apply))
                self._on_broken(name, complaint)
            else:
                draft = replace(draft, text=text)
        return draft.text


def _applied(apply: Filter, draft: Draft) -> tuple[str, str]:
    """Return what a filter makes of a draft, and a complaint if it broke its contract."""
    try:
        text: object = apply(draft)
    except Exception as exc:  # a stranger's filter may raise anything
        return "", f"it raised {type(exc).__name__}: {exc}"
    if not isinstance(text, str):
        return "", f"it returned {type(text).__name__} instead of text"
    if len(text) > len(draft.text):
        return "", "it made the text longer"
    return text, ""


# Special tokens and control characters.

_SPECIAL = re.compile(
    r"<\|[\w▁ /-]{1,40}\|>"  # GPT-2, Qwen, CodeGemma
    r"|<fim[_-](?:prefix|middle|suffix|pad)>"  # StarCoder, SantaCoder
    r"|<｜[\w▁ -]{1,40}｜>"  # noqa: RUF001 - DeepSeek's full-width bars
    r"|<(?:file_sep|repo_name|EOT|PRE|SUF|MID)>"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # bidi controls and zero widths
    "\ud800-\udfff\ufffd\ufff9-\ufffb]"  # half characters, replacements, annotations
)


def drop_special(draft: Draft) -> str:
    """Cut before a special token of a model that was written out as text."""
    return _cut_before(_SPECIAL, draft.text)


def cut_control_characters(draft: Draft) -> str:
    """Cut before a character that is not seen but changes what is: controls, bidi, zero width.

    The joiners U+200C and U+200D stay: Persian and emoji need them.
    """
    return _cut_before(_UNSEEN, draft.text)


def _cut_before(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return text[: match.start()] if match else text


# Secrets.

_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[0-9A-Za-z]{20,}"
    r"|\bgithub_pat_\w{20,}"
    r"|\bxox[abprs]-[0-9A-Za-z-]{10,}"
    r"|\bsk-[0-9A-Za-z_-]{20,}"
    r"|\bAIza[0-9A-Za-z_-]{35}"
    r"|\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}"
)
_QUOTED_RUN = re.compile(r"""(?<=["'`])[0-9A-Za-z+/=_-]{24,}(?=["'`])""")
UNFINISHED_SECRET = re.compile(
    r"(?:-----BEGIN[A-Z -]*|\b(?:AKIA|ASIA|gh[pousr]_|github_pat_|xox[abprs]-|sk-|AIza|eyJ)[\w.-]*"
    r"""|["'`][0-9A-Za-z+/=_-]*[0-9][0-9A-Za-z+/=_-]*["'`]?)$"""
)
"""The end of a text that may still become a secret; held back while it grows."""
_HEX_RUN = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")
_SECRET_BITS = 3.8
"""Bits per character from which a quoted run of mixed letters and digits counts as a secret: random
base64 of 24 characters has 4.0 and more (computed)."""


def drop_secrets(draft: Draft) -> str:
    """Cut before what looks like a key, a token or a password of a machine."""
    text = _cut_before(_SECRET, draft.text)
    for match in _QUOTED_RUN.finditer(text):
        if _looks_random(match.group()):
            return text[: match.start()]
    return text


def _looks_random(run: str) -> bool:
    n_digits = sum(c.isdigit() for c in run)
    if _HEX_RUN.fullmatch(run):
        return 4 <= n_digits < len(run)
    is_mixed = n_digits >= 3 and any(c.isupper() for c in run) and any(c.islower() for c in run)
    return is_mixed and _bits_per_character(run) >= _SECRET_BITS


def _bits_per_character(text: str) -> float:
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


# Repetition.

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


# What the text after the cursor already has.


def cut_suffix_overlap(draft: Draft) -> str:
    """Cut what stands after the cursor already: closing characters, the rest of the line, the next
    line.

    Closing characters that the completion goes on after stay: they replace those of the line, see
    `trimming.replaced_chars`.
    """
    text = _cut_following_lines(draft)
    rest = first_line(draft.suffix).rstrip()
    if not rest or "\n" in text:
        return text
    cursor_line = last_line(draft.prefix)
    if rest[0] in ")]}" or rest[0] == open_quote(cursor_line):
        for place in outer_closers(text, cursor_line, draft.language):
            if rest.startswith(text[place:].rstrip()):
                return text[:place]
        return text
    kept = text.rstrip()
    is_repeated = kept.endswith(rest) and (len(rest) > 1 or not rest.isalnum())
    return kept[: -len(rest)] if is_repeated else text


def _cut_following_lines(draft: Draft) -> str:
    """Cut before a line that equals the next line of the document."""
    next_line = line_below(draft.suffix).rstrip()
    if not next_line:
        return draft.text
    lines = draft.text.split("\n")
    is_mid_line = bool(first_line(draft.suffix).strip())
    if not is_mid_line and (last_line(draft.prefix) + lines[0]).rstrip() == next_line:
        return ""
    for index, line in enumerate(lines[1:], 1):
        if line.rstrip() == next_line:
            return "\n".join(lines[:index])
    return draft.text


# Brackets that nothing waits for.


def cut_unbalanced_closers(draft: Draft) -> str:
    """Cut before a closing bracket that closes nothing in the text before the cursor."""
    if language_facts(draft.language).is_prose:
        return draft.text
    waiting = open_brackets(draft.prefix)
    if not waiting and draft.prefix.count("\n") >= SCANNED_LINES:
        return draft.text  # What is open may have opened further above.
    for place in outer_closers(draft.text, last_line(draft.prefix), draft.language):
        char = draft.text[place]
        if char not in ")]}":
            continue
        if char not in waiting:
            return draft.text[:place]
        while waiting.pop() != char:
            pass
    return draft.text


# Indentation.


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
    widths = Counter(
        len(line) - len(line.lstrip(" "))
        for line in text.rsplit("\n", 400)
        if line.startswith(" ") and not line.lstrip().startswith("*")
    )
    widths.pop(0, None)
    if not widths:
        return 0
    for unit in (8, 4, 2):
        if sum(n for width, n in widths.items() if width % unit == 0) >= 0.9 * widths.total():
            return unit
    return 0


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
    """Show nothing that is only white space; drop white space from the end."""
    return draft.text.rstrip()
