"""Notebooks: which open documents are their cells, in which order, and what stands around a cursor.

A cell is a document of its own; for who completes, the cells of its language above it stand before
it. This module does not know the protocol or its messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.documents import Document, Documents, Point

BETWEEN = "\n\n"
"""What stands between the texts of two cells: an empty line, as between two thoughts in a file."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its document's URI, and whether it holds code or prose."""

    document: str
    is_code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The cells around a document that are of its kind and language; none if it is no cell."""

    notebook: str = ""
    """The notebook's URI; empty: the document is no cell."""
    before: tuple[Document, ...] = ()
    after: tuple[Document, ...] = ()


ALONE = Neighbours()


class Notebooks:
    """The open notebooks, by URI."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Cell]] = {}

    def open(self, notebook: str, cells: Iterable[Cell]) -> None:
        """Keep a notebook's cells, in place of any it had."""
        self._cells[notebook] = list(cells)

    def replace(self, notebook: str, start: int, n_deleted: int, cells: Iterable[Cell]) -> None:
        """Put cells in place of some; numbers beyond the end mean the end."""
        known = self._cells.setdefault(notebook, [])
        known[start : start + n_deleted] = cells

    def update(self, notebook: str, cells: Iterable[Cell]) -> None:
        """Take in what became of cells that stay where they are."""
        changed = {cell.document: cell for cell in cells}
        known = self._cells.get(notebook, [])
        known[:] = [changed.get(cell.document, cell) for cell in known]

    def close(self, notebook: str) -> list[str]:
        """Forget a notebook; return the URIs of its cells' documents."""
        return [cell.document for cell in self._cells.pop(notebook, [])]

    def neighbours(self, document: Document, documents: Documents) -> Neighbours:
        """Return the cells around a document, of those that are open."""
        for notebook, cells in self._cells.items():
            place = next((i for i, cell in enumerate(cells) if cell.document == document.uri), None)
            if place is not None:
                kind = cells[place].is_code
                alike = [
                    (i < place, documents.get(cell.document))
                    for i, cell in enumerate(cells)
                    if i != place and cell.is_code == kind
                ]
                found = [
                    (is_before, cell)
                    for is_before, cell in alike
                    if cell is not None and cell.language == document.language
                ]
                return Neighbours(
                    notebook=notebook,
                    before=tuple(cell for is_before, cell in found if is_before),
                    after=tuple(cell for is_before, cell in found if not is_before),
                )
        return ALONE


def text_around(
    document: Document, point: Point, neighbours: Neighbours, *, n_before: int, n_after: int
) -> tuple[str, str]:
    """Return the text before and after a place, that of neighbouring cells included.

    Args:
        document: where the cursor is.
        point: the cursor.
        neighbours: the cells around it.
        n_before: wanted length of the prefix, as for `Document.around`.
        n_after: greatest length of the suffix.
    """
    prefix, suffix = document.around(point, n_before=n_before, n_after=n_after)
    for cell in reversed(neighbours.before):
        left = n_before - len(prefix)
        if left <= 0:
            break
        last = cell.n_lines - 1
        end = Point(last, len(cell.line(last)))
        before, _ = cell.around(end, n_before=left, n_after=0)
        prefix = f"{before}{BETWEEN}{prefix}"
    return prefix, _joined(suffix, neighbours.after, n_after)


def _joined(suffix: str, after: Sequence[Document], n_chars: int) -> str:
    for cell in after:
        if len(suffix) >= n_chars:
            break
        _, text = cell.around(Point(0, 0), n_before=0, n_after=n_chars)
        suffix = f"{suffix}{BETWEEN}{text}"
    return suffix[:n_chars]
