"""What stands around a cursor in a notebook: the cells of its language, in their order."""

from __future__ import annotations

import pytest

from server.documents import Document, Documents, Point
from server.notebooks import ALONE, Cell, Neighbours, Notebooks, text_around


def opened(*cells: tuple[str, str, str]) -> Documents:
    """Return open documents, from their URIs, languages and texts."""
    documents = Documents()
    for uri, language, text in cells:
        documents.open(Document(uri=uri, language=language, version=1, text=text))
    return documents


DOCUMENTS = opened(
    ("a", "python", "import os\nx = 1"),
    ("b", "markdown", "# Title"),
    ("c", "python", "y = x\nz"),
    ("d", "sql", "SELECT 1"),
    ("e", "python", "print(z)"),
    ("f", "python", "# prose"),
)
CELLS = [Cell(uri, uri not in "bf") for uri in "abcdef"]


def around(notebooks: Notebooks, uri: str) -> tuple[list[str], list[str]]:
    document = DOCUMENTS.get(uri)
    assert document is not None
    found = notebooks.neighbours(document, DOCUMENTS)
    return [cell.uri for cell in found.before], [cell.uri for cell in found.after]


@pytest.fixture
def notebooks() -> Notebooks:
    books = Notebooks()
    books.open("book", CELLS)
    return books


@pytest.mark.parametrize(
    ("uri", "before", "after"),
    [("a", "", "ce"), ("c", "a", "e"), ("e", "ac", ""), ("b", "", ""), ("d", "", "")],
)
def test_neighbours_are_the_cells_of_one_kind_and_language(
    notebooks: Notebooks, uri: str, before: str, after: str
) -> None:
    assert around(notebooks, uri) == (list(before), list(after))


def test_a_document_that_is_no_cell_stands_alone(notebooks: Notebooks) -> None:
    other = Document(uri="other", language="python", version=1, text="")
    assert notebooks.neighbours(other, DOCUMENTS) is ALONE


def test_cells_come_move_and_go(notebooks: Notebooks) -> None:
    notebooks.replace("book", 0, 1, [])
    assert around(notebooks, "c") == ([], ["e"])
    notebooks.replace("book", 99, 5, [CELLS[0]])  # Beyond the end means the end.
    assert around(notebooks, "c") == ([], ["e", "a"])
    notebooks.update("book", [Cell("e", False)])
    assert around(notebooks, "c") == ([], ["a"])
    assert notebooks.close("book") == ["b", "c", "d", "e", "f", "a"]
    assert notebooks.close("book") == []
    assert around(notebooks, "c") == ([], [])


def test_a_cell_whose_document_is_not_open_is_passed_over(notebooks: Notebooks) -> None:
    notebooks.replace("book", 0, 0, [Cell("gone", True)])
    assert around(notebooks, "c") == (["a"], ["e"])


def text(uri: str, point: Point, *, n_before: int = 1000, n_after: int = 1000) -> tuple[str, str]:
    books = Notebooks()
    books.open("book", CELLS)
    document = DOCUMENTS.get(uri)
    assert document is not None
    neighbours = books.neighbours(document, DOCUMENTS)
    return text_around(document, point, neighbours, n_before=n_before, n_after=n_after)


def test_their_texts_stand_before_and_after_the_cell_s_own() -> None:
    assert text("c", Point(1, 1)) == ("import os\nx = 1\n\ny = x\nz", "\n\nprint(z)")


def test_a_document_of_its_own_is_as_it_was() -> None:
    document = Document(uri="x", language="python", version=1, text="a\nb")
    alone = text_around(document, Point(1, 0), Neighbours(), n_before=9, n_after=9)
    assert alone == document.around(Point(1, 0), n_before=9, n_after=9) == ("a\n", "b")


def test_no_more_is_taken_than_is_wanted() -> None:
    prefix, suffix = text("c", Point(1, 1), n_before=5, n_after=4)
    assert prefix == "y = x\nz"
    assert suffix == "\n\npr"
    prefix, _ = text("e", Point(0, 8), n_before=12)
    assert prefix == "y = x\nz\n\nprint(z)"


def test_a_long_cell_above_is_cut_at_a_line_start() -> None:
    lines = "".join(f"x{n} = {n}\n" for n in range(2000))
    long = Document(uri="long", language="python", version=1, text=lines)
    own = Document(uri="own", language="python", version=1, text="x")
    neighbours = Neighbours(notebook="book", before=(long,))
    prefix, _ = text_around(own, Point(0, 1), neighbours, n_before=500, n_after=0)
    assert lines.endswith(prefix.removesuffix("\n\nx"))
    assert 500 <= len(prefix) < 2500
    assert prefix.startswith("x")
