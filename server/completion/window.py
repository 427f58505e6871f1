"""The anchored window: which part of a document goes into the prompt.

Positions are learned and absolute, so dropping one token at the front would make the whole KV cache
worthless. The window's start is therefore anchored: it stays while the user types, and moves only
in big steps. Pure functions on text; how many tokens a text has is an argument. Does not know the
order of token ids nor the network.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from server.manifest import FimOrder

Count = Callable[[str], int]
"""How many tokens a text has."""

JUMP_DIVISOR = 4  # A new window leaves a quarter free, to be typed into before the next jump.
PART_DIVISOR = 4  # The suffix gets a quarter at the most, and so does the context.
BRIEF_DIVISOR = 16  # A suffix that is read again at each keystroke: a line or two. Guessed.
AHEAD_DIVISOR = 8  # So little is free when the next window is placed: half a step. Guessed.
LEAST_DIVISOR = 2  # A window that has shrunk below half is placed anew.
HEAD_CHARS = 200  # By so much of its text a window is found again. Guessed.
MAX_OCCURRENCES = 8  # Places that are looked at where the text repeats itself.
MAX_CHARS_PER_TOKEN = 32  # Longer lines are not counted whole; longest real mean seen is below 8.


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The text of a prompt, part by part."""

    context: str
    """What stands in front of the window."""
    prefix: str
    """Ends at the cursor."""
    suffix: str
    """Starts at the cursor; empty if the prompt has none."""
    order: FimOrder | None
    """How the prompt is put together; None: left to right."""


def choose_order(order: FimOrder | None, suffix: str, *, is_explicit: bool) -> FimOrder | None:
    """Return the order of the prompt, None for left to right.

    With the suffix first (spm) typing only appends to the prompt, so the suffix is given whenever
    there is one. With the prefix first (psm) each keystroke makes the network read the suffix
    again: that is worth it where text stands right of the cursor, and where the user asked.

    Args:
        order: what the model was trained for; None if it doesn't know suffixes.
        suffix: text after the cursor.
        is_explicit: the user asked for this completion.
    """
    if order == "psm" and not is_explicit and not suffix.split("\n", 1)[0].strip():
        return None
    return order if suffix.strip() else None


def suffix_limit(order: FimOrder | None, max_tokens: int, *, is_explicit: bool) -> int:
    """Return how many tokens of the suffix the prompt may have.

    Args:
        order: of the prompt.
        max_tokens: of the whole prompt.
        is_explicit: the user asked for this completion.
    """
    if order is None:
        return 0
    is_brief = order == "psm" and not is_explicit
    return max_tokens // (BRIEF_DIVISOR if is_brief else PART_DIVISOR)


def place_window(
    prefix: str,
    suffix: str,
    context: str,
    *,
    order: FimOrder | None,
    max_tokens: int,
    max_suffix_tokens: int,
    previous: Sequence[Window],
    count: Count,
    count_prefix: Count,
) -> Window:
    """Choose the parts of a prompt so that they have most in common with an earlier one.

    Args:
        prefix: text before the cursor, starts at a line start.
        suffix: text after the cursor.
        context: text for the front; a window that stays keeps the one that it has.
        order: of the prompt.
        max_tokens: of all parts together.
        max_suffix_tokens: of the suffix alone.
        previous: windows of the same document, the last used first.
        count: for lines, context and suffix.
        count_prefix: for the window's prefix.
    """
    suffix = first_lines(suffix, max_suffix_tokens, count)
    context = first_lines(context, max_tokens // PART_DIVISOR, count)
    max_tokens -= count(suffix)
    for window, text in _anchored(prefix, previous):
        # Text that comes or goes altogether was switched on or off.
        kept = window.context if window.context and context else context
        n_tokens = count_prefix(text)
        n_free = max_tokens - count(kept)
        if n_tokens <= n_free and (n_tokens >= n_free // LEAST_DIVISOR or text == prefix):
            return Window(context=kept, prefix=text, suffix=suffix, order=order)
    text = _last_lines(prefix, max_tokens - count(context), count, count_prefix)
    return Window(context=context, prefix=text, suffix=suffix, order=order)


def next_window(
    window: Window,
    n_prefix_tokens: int,
    context: str,
    *,
    max_tokens: int,
    previous: Window | None,
    count: Count,
    count_prefix: Count,
) -> Window | None:
    """Return the window that follows when this one is full; None: that is not near.

    It starts where the jump will start it, and ends at the cursor as this one does. Given as an
    earlier window to `place_window`, it is found there as soon as this one is full.

    Args:
        window: the present one.
        n_prefix_tokens: of its prefix.
        context: text for the front.
        max_tokens: of all parts together.
        previous: what was returned last; it stays while it fits.
        count: for lines, context and suffix.
        count_prefix: for the prefix of the window that follows.
    """
    max_tokens -= count(window.suffix)
    n_free = max_tokens - count(window.context)
    n_left = n_free - n_prefix_tokens
    if n_left > n_free // AHEAD_DIVISOR:
        return None
    for kept, text in _anchored(window.prefix, [previous] if previous is not None else []):
        n_room = max_tokens - count(kept.context)
        n_then = count_prefix(text) + n_left
        is_useful = n_room // LEAST_DIVISOR <= n_then <= n_room - n_room // AHEAD_DIVISOR
        if is_useful and text != window.prefix:
            return replace(window, context=kept.context, prefix=text)
    context = first_lines(context, max_tokens // PART_DIVISOR, count)
    n_room = max_tokens - count(context)
    text = _tail_lines(window.prefix, n_room - n_room // JUMP_DIVISOR - n_left, count)
    return replace(window, context=context, prefix=text)


def first_lines(text: str, max_tokens: int, count: Count) -> str:
    """Return as many whole lines from the front as fit; of a first line that is too long, a part.

    Args:
        text: several lines.
        max_tokens: of the part that is kept.
        count: for single lines.
    """
    n_tokens, end = 0, 0
    while end < len(text):
        line_end = text.find("\n", end) + 1 or len(text)
        if line_end - end > MAX_CHARS_PER_TOKEN * max_tokens:
            break
        n_tokens += count(text[end:line_end])
        if n_tokens > max_tokens:
            break
        end = line_end
    if end == 0 and text:
        end = _most_chars(len(text), max_tokens, lambda n: count(text[:n]))
    return text[:end]


def _anchored(prefix: str, previous: Sequence[Window]) -> Iterator[tuple[Window, str]]:
    """Yield the earlier windows that are found again, the one with most in common first; and the
    text from their start to the cursor.
    """
    found = []
    for window in previous:
        starts = _occurrences(prefix, window.prefix[:HEAD_CHARS])
        places = [(_count_agreeing(prefix[start:], window.prefix), start) for start in starts]
        if places:
            n_agreeing, start = max(places, key=lambda place: (place[0], -place[1]))
            found.append((n_agreeing, window, prefix[start:]))
    for _, window, text in sorted(found, key=lambda each: -each[0]):
        yield window, text


def _occurrences(text: str, head: str) -> Iterator[int]:
    """Yield where a window's head stands, from the end, a few at the most."""
    start = len(text)
    for _ in range(MAX_OCCURRENCES if head else 0):
        start = text.rfind(head, 0, start + len(head) - 1)
        if start < 0:
            return
        yield start


def _count_agreeing(one: str, other: str) -> int:
    """Return how many characters at the front are equal."""
    n_both = min(len(one), len(other))
    return bisect_left(range(1, n_both + 1), True, key=lambda n: one[:n] != other[:n])


def _last_lines(prefix: str, max_tokens: int, count: Count, count_prefix: Count) -> str:
    """Return the end of a text: all of it if it fits, else whole lines with a step left free."""
    is_short = len(prefix) <= MAX_CHARS_PER_TOKEN * max_tokens
    if is_short and count_prefix(prefix) <= max_tokens:
        return prefix
    return _tail_lines(prefix, max_tokens - max_tokens // JUMP_DIVISOR, count)


def _tail_lines(prefix: str, max_tokens: int, count: Count) -> str:
    """Return as many whole lines from the end as fit; of a last line that is too long, a part."""
    n_tokens, start = 0, len(prefix)
    while start > 0:
        line_start = prefix.rfind("\n", 0, start - 1) + 1
        if start - line_start > MAX_CHARS_PER_TOKEN * max_tokens:
            break
        n_tokens += count(prefix[line_start:start])
        if n_tokens > max_tokens:
            break
        start = line_start
    if start == len(prefix):
        n_chars = _most_chars(len(prefix), max_tokens, lambda n: count(prefix[-n:]))
        start -= n_chars
    return prefix[start:]


def _most_chars(n_chars: int, max_tokens: int, count_chars: Callable[[int], int]) -> int:
    """Return how many characters fit, of which `count_chars` tells the tokens; grows until they
    don't fit, then halves the interval, so that long text is not counted whole.
    """
    if max_tokens <= 0:
        return 0
    low, high = 0, max_tokens
    while high < n_chars and count_chars(high) <= max_tokens:
        low, high = high, 2 * high
    high = min(high, n_chars)
    inside = range(low + 1, high + 1)
    return low + bisect_left(inside, True, key=lambda n: count_chars(n) > max_tokens)
