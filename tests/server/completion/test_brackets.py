"""What is open before the cursor, read quickly and again and again, is what a slow reading says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from server.completion.brackets import SCANNED_LINES, _Scanner, open_brackets, open_quote

PIECES = st.sampled_from(
    [*"()[]{}\"'`\\\n$fa ", "don't", "&'a", 'f"{x', "\\\\", '\\"', "`${", "é", "'''", "x" * 40]
)
TEXT = st.lists(PIECES, max_size=60).map("".join)


def read_slowly(text: str) -> list[str]:
    scanner = _Scanner(has_quotes=True)
    for char in text:
        scanner.read(char)
    return scanner.waiting


@given(TEXT)
@settings(max_examples=400)
def test_a_quick_reading_finds_what_a_slow_one_does(text: str) -> None:
    waiting = read_slowly(text)
    assert open_brackets(text) == [char for char in waiting if char in ")]}"]
    assert open_quote(text) == (waiting[-1] if waiting and waiting[-1] in "\"'`" else "")


@given(TEXT, st.lists(TEXT, max_size=5))
@settings(max_examples=100)
def test_what_was_read_before_changes_nothing(text: str, typed: list[str]) -> None:
    for piece in typed:
        text += piece
        assert open_brackets(text) == [char for char in read_slowly(text) if char in ")]}"]
        open_brackets(text).clear()


def test_only_so_many_lines_are_read() -> None:
    assert open_brackets("(\n" * SCANNED_LINES) == [")"] * (SCANNED_LINES - 1)
    assert open_brackets("[\n" + "(\n" * (SCANNED_LINES - 1)) == [")"] * (SCANNED_LINES - 1)
