"""Documents against a plain string: line ends, edits, cuts, sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.documents import STEP_LINES, Document, Documents, Point


def document(text: str) -> Document:
    return Document(uri="file:///a.py", language="python", version=1, text=text)


def plain_lines(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def plain_offset(text: str, point: Point) -> int:
    """Where a place lies in a plain string, found the slow way."""
    starts = [0] + [m.end() for m in re.finditer(r"\r\n|\n|\r", text)]
    return starts[point.line] + point.column


def check_edit(before: str, start: tuple[int, int], end: tuple[int, int], text: str, after: str):
    subject = document(before)
    subject.replace(Point(*start), Point(*end), text)
    assert subject.text == after
    assert [subject.line(i) for i in range(subject.n_lines)] == plain_lines(after)


TEXTS = st.text(alphabet="ab \n\r\f\v\x1c\x85\u2028é😀\ud83d\udc80", max_size=30)


@settings(max_examples=400)
@given(st.data())
def test_edits_agree_with_a_plain_string(data: st.DataObject) -> None:
    subject = document(data.draw(TEXTS))
    for _ in range(data.draw(st.integers(1, 6))):
        # What stood in two halves is one code point inside, so the model starts from the subject.
        plain = subject.text
        points = []
        for _ in range(2):
            line = data.draw(st.integers(0, subject.n_lines - 1))
            points.append(Point(line, data.draw(st.integers(0, len(subject.line(line))))))
        start, end = sorted(points)
        text = data.draw(TEXTS)
        subject.replace(start, end, text)
        edited = plain[: plain_offset(plain, start)] + text + plain[plain_offset(plain, end) :]
        assert subject.text == edited.encode("utf-16", "surrogatepass").decode(
            "utf-16", "surrogatepass"
        )
        assert [subject.line(i) for i in range(subject.n_lines)] == plain_lines(subject.text)
        assert subject.n_chars == len(plain_lines(subject.text)) - 1 + sum(
            map(len, plain_lines(subject.text))
        )


@pytest.mark.parametrize(
    "separator", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_only_three_line_ends_count(separator: str) -> None:
    """`str.splitlines` splits at eight more, and an edit on line 1 landed in line 0."""
    check_edit(f"a{separator}b\nsecond\n", (1, 0), (1, 0), "X", f"a{separator}b\nXsecond\n")


def test_crlf_stays_outside_and_lf_is_inside() -> None:
    subject = document("a\r\nb\rc\n")
    assert subject.text == "a\r\nb\rc\n"
    assert subject.around(Point(2, 1), n_before=100, n_after=100) == ("a\nb\nc", "\n")
    assert subject.n_chars == len("a\nb\nc\n")


def test_a_line_end_that_comes_in_two_edits_is_one() -> None:
    check_edit("a\rb", (1, 0), (1, 0), "\n", "a\r\nb")
    check_edit("a\nb", (0, 1), (0, 1), "\r", "a\r\nb")
    check_edit("a\rxx\nb", (1, 0), (1, 2), "", "a\r\nb")


def test_halves_of_a_pair_that_come_in_two_edits_are_one_code_point() -> None:
    subject = document("x")
    subject.replace(Point(0, 1), Point(0, 1), "\ud83d")
    subject.replace(Point(0, 2), Point(0, 2), "\ude00")
    assert subject.line(0) == "x😀"


def test_places_that_do_not_exist_are_clamped() -> None:
    check_edit("ab\ncd", (0, 99), (0, 99), "X", "abX\ncd")
    check_edit("ab\ncd", (9, 0), (9, 9), "X", "ab\ncdX")
    check_edit("ab\ncd", (1, 0), (0, 1), "X", "aXcd")
    check_edit("ab", (0, -5), (-3, 2), "X", "Xab")


def test_lone_surrogates_are_kept_but_not_handed_on() -> None:
    subject = document("a\ud800b\n\udfffc")
    assert subject.text == "a\ud800b\n\udfffc"
    assert subject.around(Point(1, 1), n_before=50, n_after=50) == ("a\ufffdb\n\ufffd", "c")


def test_a_short_document_is_handed_on_whole() -> None:
    assert document("one\ntwo\nthree").around(Point(1, 1), n_before=50, n_after=50) == (
        "one\nt",
        "wo\nthree",
    )


def test_a_cut_prefix_starts_at_a_line_start_that_rests() -> None:
    lines = [f"line {i}" for i in range(1000)]
    subject = document("\n".join(lines))
    starts = {
        subject.around(Point(line, 4), n_before=500, n_after=0)[0].split("\n", 1)[0]
        for line in range(800, 800 + STEP_LINES)
    }
    assert starts <= set(lines)
    assert len(starts) <= 2


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 100), st.data())
def test_a_cut_prefix_and_suffix_are_bounded(
    lengths: list[int], n_chars: int, data: st.DataObject
) -> None:
    text = "\n".join("x" * n for n in lengths)
    subject = document(text)
    line = data.draw(st.integers(0, subject.n_lines - 1))
    point = Point(line, data.draw(st.integers(0, lengths[line])))
    prefix, suffix = subject.around(point, n_before=n_chars, n_after=n_chars)
    offset = plain_offset(text, point)
    assert text[:offset].endswith(prefix)
    assert text[offset:].startswith(suffix)
    assert min(n_chars, len(suffix)) == len(suffix) == min(n_chars, len(text) - offset)
    assert len(prefix) <= 4 * n_chars


def test_an_edit_of_a_large_document_touches_its_lines_only() -> None:
    subject = document("# a filler line of ordinary length\n" * 20_000)
    untouched = subject.line(19_999)
    subject.replace(Point(10_000, 0), Point(10_000, 0), "x\n")
    assert subject.n_lines == 20_002
    assert subject.line(20_000) is untouched


def test_a_line_of_a_megabyte_is_edited_and_cut() -> None:
    subject = document("x" * 1_000_000)
    subject.replace(Point(0, 999_999), Point(0, 1_000_000), "y")
    prefix, suffix = subject.around(Point(0, 1_000_000), n_before=1000, n_after=1000)
    assert prefix.endswith("xy")
    assert len(prefix) <= 4000
    assert suffix == ""


def test_documents_are_known_only_while_open() -> None:
    documents = Documents()
    documents.open(document("a"))
    found = documents.get("file:///a.py")
    assert found is not None
    assert found.text == "a"
    assert documents.close("file:///a.py")
    assert documents.get("file:///a.py") is None
    assert not documents.close("file:///a.py")
