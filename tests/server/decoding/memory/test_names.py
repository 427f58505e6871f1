"""The names of texts, found by path and by folder."""

from __future__ import annotations

import pytest

from server.decoding.memory.names import Names, folder_of

NAMES = Names(["a/x.py", "a/y.py", "a/b/x.py", "z.py"])


def test_numbers_are_those_of_the_order():
    assert NAMES.numbers(["z.py", "missing.py", "a/x.py"]).tolist() == [3, 0]
    assert [NAMES[i] for i in range(len(NAMES))] == list(NAMES)


@pytest.mark.parametrize(
    ("folder", "numbers"), [("a", [0, 1]), ("a/b", [2]), ("", [3]), ("b", []), ("a/x.py", [])]
)
def test_a_folder_has_the_texts_right_in_it(folder: str, numbers: list[int]):
    assert NAMES.inside(folder).tolist() == numbers


def test_a_text_without_a_folder_lies_at_the_top():
    assert folder_of("z.py") == ""
    assert folder_of("a/b/x.py") == "a/b"
