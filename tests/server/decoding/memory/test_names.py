"""The names of texts, found by path and by folder."""

from __future__ import annotations

import pytest

from server.decoding.memory.names import Names, folder_of, module_of

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


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("a/b.py", "a/b"),
        ("a/b/__init__.py", "a/b"),
        ("index.ts", "index"),
        ("web/index.tsx", "web"),
        ("a/b.test.js", "a/b"),
        ("a/.hidden", "a/.hidden"),
    ],
)
def test_a_file_is_imported_by_its_module(path: str, module: str):
    assert module_of(path) == module


def test_texts_are_found_by_the_end_of_their_module():
    names = Names(["src/a/b.py", "src/a/__init__.py", "src/aa.py", "c/b.py", "b.py"])
    assert names.of_modules(["a/b"]).tolist() == [0]
    assert names.of_modules(["b"]).tolist() == [0, 3, 4]
    assert names.of_modules(["a", "nothing"]).tolist() == [1]
    assert names.of_modules([]).tolist() == []
