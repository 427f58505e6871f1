"""Where a completion ends: one line, a block, or a sentence.

Pure functions on text. They run after every piece of generated text, on the worker thread, so that
the engine stops as soon as the end is known. Nothing here knows tokens or time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from server.completion.gates import is_mid_line
from server.completion.languages import (
    first_line,
    indentation,
    is_comment_line,
    language_facts,
    last_line,
    line_above,
    line_below,
    opens_block,
)
from server.completion.request import CompletionRequest

Mode = Literal["line", "block", "sentence"]

_CLOSING_LINE = re.compile(r"\s*(?:[)\]}]|</|(?:end|fi|done|esac)\b)")
_WIDE_STOPS = "。！？"  # noqa: RUF001 - the full stops of Chinese and Japanese
_SENTENCE_END = re.compile(rf"[.!?…]+[\"'”’)\]*_`]*(?=\s|$)|[{_WIDE_STOPS}]")  # noqa: RUF001
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Dr|Mr|Mrs|Ms|No|Fig|approx)|^\s*\d+)\.$")
_LEADING_BLANK_LINES = 2
"""Blank lines that may stand in front of a block's first line (guessed)."""
_PARAGRAPH_LINE = re.compile(r"\s*[^\W\d_]")
"""A line that goes on with a paragraph: it starts with a letter, not with a list's mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """What ends a completion at one place of a document."""

    mode: Mode
    max_lines: int = 1
    may_open_block: bool = False
    """A first line that opens a block turns `line` into `block`."""
    may_start_below: bool = False
    """The cursor's line is done: the text may start with line ends, and the line below counts."""
    cursor_line: str = ""
    """The cursor's line up to the cursor."""
    floor: int = -1
    """Lines indented this much or less are outside the block."""
    closer_indent: int = -1
    """A closing line with this indentation still belongs to the block; -1: none does."""
    next_line: str = ""
    """The next line of the document that is not blank: where it appears the completion ends."""
    language: str = "plaintext"


def stop_rules(
    request: CompletionRequest, multi_line: str, max_lines: int, *, follows_accept: bool = False
) -> StopRules:
    """Return the rules for a request.

    Args:
        request: text and cursor.
        multi_line: `auto`, `always` or `never`.
        max_lines: at the most.
        follows_accept: a completion up to the cursor was just accepted, so the next line is due.
    """
    line = last_line(request.prefix)
    next_line = line_below(request.suffix)
    rules = StopRules(
        mode="line",
        cursor_line=line,
        next_line=next_line,
        language=request.language,
        may_start_below=follows_accept and not first_line(request.suffix).strip(),
    )
    is_prose = language_facts(request.language).is_prose
    if multi_line == "never":
        max_lines = 1
    is_comment = is_comment_line(line, request.language) and not rules.may_start_below
    if is_prose or is_comment:
        return replace(rules, mode="sentence", max_lines=max_lines if is_prose else 1)
    if max_lines == 1 or (multi_line == "auto" and is_mid_line(request)):
        return rules
    block = _missing_block(request, line, next_line)
    if block is None and multi_line == "auto":
        return replace(rules, may_open_block=True, max_lines=max_lines)
    floor, closer_indent = block or (indentation(line) - 1, -1)
    return replace(
        rules, mode="block", max_lines=max_lines, floor=floor, closer_indent=closer_indent
    )


def find_end(text: str, rules: StopRules, *, is_ended: bool = False) -> int | None:
    """Return where the completion ends in the generated text; None: not yet known.

    Args:
        text: all that was generated so far.
        rules: of the place.
        is_ended: nothing more will come, so an unfinished line counts as a whole one.
    """
    start = len(text) - len(text.lstrip("\n")) if rules.may_start_below else 0
    if rules.mode == "block":
        return _block_end(text, rules, is_ended)
    if rules.mode == "sentence":
        end = _sentence_end(text[start:], rules, is_ended)
    else:
        end = _line_end(text[start:], rules, is_ended, starts_below=start > 0)
    return None if end is None else start + end


def _line_end(text: str, rules: StopRules, is_ended: bool, *, starts_below: bool) -> int | None:
    """Return the end of the first line, or of the block that it opens."""
    end = text.find("\n")
    if end < 0:
        return len(text) if is_ended else None
    first = text[:end] if starts_below else rules.cursor_line + text[:end]
    if rules.may_open_block and text[:end].strip() and opens_block(first, rules.language):
        return _block_end(text, _block_below(first, rules), is_ended)
    return end


def _missing_block(request: CompletionRequest, line: str, next_line: str) -> tuple[int, int] | None:
    """Return floor and closer indentation where a block opens and has no body yet."""
    opener = line if line.strip() else line_above(request.prefix)
    if not opens_block(opener, request.language):
        return None
    outside = indentation(opener)
    if next_line and indentation(next_line) > outside:
        return None  # The body is there already.
    floor = outside
    if not line.strip() and line:
        if indentation(line) <= outside:
            return None
        floor = indentation(line) - 1
    return floor, _closer_indent(opener, request, next_line)


def _closer_indent(opener: str, request: CompletionRequest, next_line: str) -> int:
    """Return the indentation of the closing line that a block still lacks; -1: it lacks none."""
    outside = indentation(opener)
    ends_with_bracket = opener.rstrip().endswith(("{", "[", "("))
    if language_facts(request.language).ends_by_dedent and not ends_with_bracket:
        return -1
    closes_on_this_line = bool(_CLOSING_LINE.match(first_line(request.suffix)))
    closes_below = bool(_CLOSING_LINE.match(next_line)) and indentation(next_line) == outside
    return -1 if closes_below and not closes_on_this_line else outside


def _block_below(first: str, rules: StopRules) -> StopRules:
    """Return the rules of the block that the first generated line opened."""
    outside = indentation(first)
    ends_with_bracket = first.rstrip().endswith(("{", "[", "("))
    has_closer = ends_with_bracket or not language_facts(rules.language).ends_by_dedent
    return replace(rules, mode="block", floor=outside, closer_indent=outside if has_closer else -1)


def _block_end(text: str, rules: StopRules, is_ended: bool) -> int | None:
    lines = text.split("\n")
    n_lines = 0
    start = 0
    for index, line in enumerate(lines):
        is_whole = is_ended or index < len(lines) - 1
        if index > 0 and (line.strip() or is_whole):
            may_be_blank = n_lines == 0 and index < _LEADING_BLANK_LINES
            end = _end_at_line(line, start, rules, is_whole=is_whole, may_be_blank=may_be_blank)
            if end is not None:
                return end
        n_lines += bool(line.strip())
        start += len(line) + 1
        if index < len(lines) - 1 and n_lines >= rules.max_lines:
            return start - 1
    return len(text) if is_ended else None


def _end_at_line(
    line: str, start: int, rules: StopRules, *, is_whole: bool, may_be_blank: bool
) -> int | None:
    """Return the completion's end if a line, which starts at `start`, ends it."""
    before = start - 1
    if not line.strip():
        return None if may_be_blank else before
    if is_whole and rules.next_line and line.rstrip() == rules.next_line.rstrip():
        return before
    if indentation(line) > rules.floor:
        return None
    may_close = _CLOSING_LINE.match(line) or (not is_whole and _may_become_closing(line))
    if indentation(line) != rules.closer_indent or not may_close:
        return before
    if not is_whole or opens_block(line, rules.language):
        return None  # `} else {` goes on with the block.
    return start + len(line)


def _may_become_closing(line: str) -> bool:
    return any(word.startswith(line.strip()) for word in ("</", "end", "fi", "done", "esac"))


def _sentence_end(text: str, rules: StopRules, is_ended: bool) -> int | None:
    limit = _paragraph_end(text, rules, is_ended)
    reach = len(text) if limit is None else limit
    for match in _SENTENCE_END.finditer(text, 0, reach):
        is_decided = match.end() < len(text) or is_ended or match.group() in _WIDE_STOPS
        is_abbreviation = _ABBREVIATION.search(text[: match.end()])
        if is_decided and not is_abbreviation and text[: match.start()].strip():
            return match.end()
    return limit


def _paragraph_end(text: str, rules: StopRules, is_ended: bool) -> int | None:
    """Return where the paragraph, or the number of lines, ends."""
    start = text.find("\n")
    n_lines = 1
    while start >= 0:
        following = text[start + 1 :]
        if n_lines >= rules.max_lines:
            return start
        if following and not _PARAGRAPH_LINE.match(first_line(following)):
            is_open = not first_line(following).strip() and "\n" not in following
            if not is_open or is_ended:
                return start
        n_lines += 1
        start = text.find("\n", start + 1)
    return len(text) if is_ended else None
