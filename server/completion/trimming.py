"""From generated text to shown text: where it ends, what is held back, what it replaces.

Pure. One function, `present`, is the whole way from the engine's pieces to a candidate's text; it
is the same for text that still grows and for text that is finished.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.completion.brackets import open_quote, outer_closers
from server.completion.confidence import (
    cut_unsure,
    mean_probability,
    sure_chars,
    without_unfinished,
)
from server.completion.engine import CopySource, TextDelta
from server.completion.filters import UNFINISHED_SECRET, Draft, is_telling, may_say_again
from server.completion.languages import first_line, is_word_character, last_line
from server.completion.request import CompletionRequest
from server.completion.stopping import StopRules, find_end

NEAR_CHARS = 20_000
"""So much text on either side of the cursor is shown to filters, which run with every piece of a
growing text (guessed: some hundred lines)."""
_BRACKETS_AND_QUOTES = ")]}\"'`"
_CUT_FOR_GOOD_CHARS = 40
"""More than a filter takes back for a while, such as white space or a closing tag (guessed)."""
_UNFINISHED_TOKEN = re.compile(r"<[|｜]?[\w▁ /-]{0,40}[|｜]?$")  # noqa: RUF001 - DeepSeek's bars


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What is shown of a generated text."""

    text: str
    confidence: float = 1.0
    """Mean probability per piece of the text that is left after the confidence cut, in [0, 1]."""
    is_complete: bool = False
    """More generated text would change nothing."""
    reason: str = ""
    """Why nothing is shown, where that is so."""


def present(
    request: CompletionRequest,
    deltas: Sequence[TextDelta],
    *,
    rules: StopRules,
    filters: Callable[[Draft], str],
    min_confidence: float = 0.0,
    is_ended: bool = False,
) -> Presented:
    """Return what a request is shown of the text that was generated for it so far.

    Args:
        request: the place that the text was generated for.
        deltas: the generated pieces, the first one right after the cursor.
        rules: where it ends.
        filters: what shortens the text before it is shown.
        min_confidence: the text is cut where it is less sure; 0 cuts nothing.
        is_ended: nothing more will come.
    """
    raw = "".join(delta.text for delta in deltas)
    end = find_end(raw, rules, is_ended=is_ended)
    text = raw if end is None else raw[:end]
    sure = sure_chars(deltas, len(text), min_confidence, is_final=end is not None)
    is_unsure = sure is not None and sure < len(text)
    is_complete = end is not None or is_unsure
    confidence = mean_probability(deltas, len(text) if sure is None else sure)
    if sure is None:
        text = ""
    elif is_unsure:
        text = cut_unsure(text, sure)
    elif not is_complete:
        kept = without_unfinished(text) if min_confidence > 0 else text
        text = without_pending(kept, request, rules)
    draft = Draft(
        text=text,
        prefix=_near_before(request.prefix),
        suffix=request.suffix[:NEAR_CHARS],
        language=request.language,
        is_explicit=request.trigger == "invoked",
    )
    shown = filters(draft)
    # What a filter cut so long ago does not come back: whatever follows would be cut as well.
    is_complete |= len(text) - len(shown) > _CUT_FOR_GOOD_CHARS and text.startswith(shown)
    reason = ""
    if is_complete and not shown.strip():
        shown = ""
        reason = _why_nothing(raw, text, is_unsure)
    return Presented(text=shown, confidence=confidence, is_complete=is_complete, reason=reason)


def _near_before(prefix: str) -> str:
    """Return the end of a prefix, from a line start on if its lines are not very long: so it begins
    with the same text while a line is typed, and what is known of that text stays true.
    """
    if len(prefix) <= NEAR_CHARS:
        return prefix
    line_start = prefix.find("\n", -NEAR_CHARS, -NEAR_CHARS // 2) + 1
    return prefix[line_start or -NEAR_CHARS :]


def _why_nothing(raw: str, text: str, is_unsure: bool) -> str:
    if is_unsure:
        return "the model is unsure"
    if text.strip():
        return "the filters left nothing"
    return "the line is complete" if "\n" in raw else "the model has nothing to add"


def longest_copy(deltas: Sequence[TextDelta], n_chars: int) -> CopySource | None:
    """Return the longest run among the first characters that stands word for word elsewhere."""
    longest, start = None, 0
    for delta in deltas:
        start += len(delta.text)
        if start > n_chars:
            break
        source = delta.copied_from
        if source is not None and (longest is None or source.n_tokens > longest.n_tokens):
            longest = source
    return longest


def without_pending(text: str, request: CompletionRequest, rules: StopRules) -> str:
    """Return the part of an unfinished text that no later piece can make a rule cut.

    Held back: white space at the end, closing characters that the rest of the line has, half a
    special token or secret, a line that may turn out to be the document's next one or one above,
    and lines that repeat earlier ones.
    """
    if may_say_again(text, _near_before(request.prefix)) or _may_become_next(text, request, rules):
        return ""
    text = UNFINISHED_SECRET.sub("", _UNFINISHED_TOKEN.sub("", text))
    lines = text.split("\n")
    if len(lines) > 1 and _may_be_cut(lines, request, rules):
        lines.pop()
    while len(lines) > 1 and is_telling(lines[-1]) and lines[-1] in _earlier(lines, request):
        lines.pop()
    text = "\n".join(lines).rstrip()
    rest = first_line(request.suffix).rstrip()
    if rest and len(lines) == 1:
        text = _without_overlap(text, rest)
    return text.rstrip()


def _may_become_next(text: str, request: CompletionRequest, rules: StopRules) -> bool:
    """Whether the cursor's unfinished line may turn out to be the document's next one."""
    line = rules.cursor_line + text
    return bool(line.strip()) and "\n" not in text and rules.next_line.startswith(line)


def _may_be_cut(lines: Sequence[str], request: CompletionRequest, rules: StopRules) -> bool:
    line = lines[-1]
    if not any(c.isalnum() for c in line) or rules.next_line.startswith(line):
        return True
    return any(other.strip().startswith(line.strip()) for other in _earlier(lines, request))


def _earlier(lines: Sequence[str], request: CompletionRequest) -> list[str]:
    """Return the whole lines in front of the last one, the cursor's line first."""
    return [last_line(request.prefix) + lines[0], *lines[1:-1]]


def _without_overlap(text: str, rest: str) -> str:
    """Drop the longest tail of a text that the rest of the line begins with."""
    for size in range(min(len(text), len(rest)), 0, -1):
        if text.endswith(rest[:size]):
            return text[:-size]
    return text


def replaced_chars(text: str, request: CompletionRequest) -> int:
    """Return how many characters after the cursor the text already contains, so that it replaces
    them.

    These are the closing characters that the text itself writes before it goes on, or the whole
    rest of the line where the text's first line contains it.
    """
    rest = first_line(request.suffix).rstrip()
    if not rest or not text:
        return 0
    cursor_line = last_line(request.prefix)
    if rest[0] not in ")]}" and rest[0] != open_quote(cursor_line):
        is_contained = len(rest) > 1 and rest.strip() in first_line(text)
        return len(rest) if is_contained else 0
    n_replaced, end = 0, 0
    outer = outer_closers(text, cursor_line, request.language)
    for place in outer:
        if rest[n_replaced : n_replaced + 1] != text[place]:
            break
        n_replaced, end = n_replaced + 1, place + 1
        following = text[place + 1 : place + 2]
        if following and following in ";,:" and rest[n_replaced : n_replaced + 1] == following:
            n_replaced += 1
    if not n_replaced:
        return 0
    return n_replaced + _tail_in_rest(text, end, rest[n_replaced:], outer)


def _tail_in_rest(text: str, start: int, rest: str, outer: Sequence[int]) -> int:
    """Return how many characters of the rest of the line the text's tail has, behind `start`.

    It is all of the rest or only what is no word, and no closing character of the text's own.
    """
    for size in range(min(len(text) - start, len(rest)), 0, -1):
        begin = len(text) - size
        is_own = any(
            text[at] in _BRACKETS_AND_QUOTES and at not in outer for at in range(begin, len(text))
        )
        is_telling_nothing = not any(is_word_character(char) for char in rest[:size])
        if text.endswith(rest[:size]) and (size == len(rest) or is_telling_nothing) and not is_own:
            return size
    return 0
