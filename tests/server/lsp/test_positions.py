"""Columns in three encodings against Python's own codecs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.lsp.positions import (
    PositionEncoding,
    choose_encoding,
    column_from_units,
    units_from_column,
)

ENCODINGS: tuple[PositionEncoding, ...] = ("utf-8", "utf-16", "utf-32")
LINES = st.text(alphabet="a\té€😀𐍈\u2028", max_size=20)
ODD_LINES = st.text(alphabet="a\té😀\ud83d\udc80\udfff", max_size=20).map(
    lambda t: t.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)


@given(LINES, st.sampled_from(ENCODINGS))
def test_units_count_what_the_codec_writes(line: str, encoding: PositionEncoding) -> None:
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    codec = encoding if encoding == "utf-8" else f"{encoding}-le"
    for column in range(len(line) + 1):
        expected = len(line[:column].encode(codec)) // width
        assert units_from_column(line, column, encoding) == expected
        assert column_from_units(line, expected, encoding) == column


@given(ODD_LINES, st.sampled_from(ENCODINGS), st.integers(-3, 100))
def test_any_unit_of_any_line_means_a_column(
    line: str, encoding: PositionEncoding, units: int
) -> None:
    column = column_from_units(line, units, encoding)
    assert 0 <= column <= len(line)
    assert units_from_column(line, column, encoding) <= max(units, 0)
    if column < len(line):
        assert units_from_column(line, column + 1, encoding) > units


def test_a_unit_inside_a_character_means_its_start() -> None:
    assert column_from_units("a😀b", 2, "utf-16") == 1
    assert [column_from_units("a😀b", n, "utf-8") for n in range(7)] == [0, 1, 1, 1, 1, 2, 3]


def test_a_byte_that_is_no_utf8_counts_as_one() -> None:
    """An editor that holds a Latin-1 file counts bytes; JSON brought the byte as U+DCE9."""
    assert column_from_units("caf\udce9 é", 5, "utf-8") == 5
    assert units_from_column("caf\udce9 é", 6, "utf-8") == 7


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["utf-16", "utf-8"], "utf-16"),
        (["utf-8", "utf-16"], "utf-8"),
        (["klingon", "utf-32"], "utf-32"),
        (["klingon"], "utf-16"),
        ([], "utf-16"),
        (None, "utf-16"),
    ],
)
def test_the_first_known_encoding_is_chosen(offered: list[str] | None, chosen: str) -> None:
    assert choose_encoding(offered) == chosen
