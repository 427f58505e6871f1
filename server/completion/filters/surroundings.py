"""What stands around the cursor already: lines and closers after it, open brackets before it."""

from __future__ import annotations

from server.completion.brackets import SCANNED_LINES, open_brackets, open_quote, outer_closers
from server.completion.filters.chain import Draft
from server.completion.languages import first_line, language_facts, last_line, line_below


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


def cut_unbalanced_closers(draft: Draft) -> str:
    """Cut before a closing bracket that closes nothing in the text before the cursor."""
    if language_facts(draft.language).is_prose:
        return draft.text
    outer = outer_closers(draft.text, last_line(draft.prefix), draft.language)
    closers = [place for place in outer if draft.text[place] in ")]}"]
    if not closers:
        return draft.text
    waiting = open_brackets(draft.prefix)
    if not waiting and draft.prefix.count("\n") >= SCANNED_LINES:
        return draft.text  # What is open may have opened further above.
    for place in closers:
        char = draft.text[place]
        if char not in waiting:
            return draft.text[:place]
        while waiting.pop() != char:
            pass
    return draft.text
