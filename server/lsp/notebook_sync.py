"""Notebooks as the protocol tells of them: `notebookDocument/*` into cells and their documents.

Knows neither completions nor the workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lsprotocol import types

from server.notebooks import Cell, Notebooks

OPTIONS = types.NotebookDocumentSyncOptions(
    notebook_selector=[types.NotebookDocumentFilterWithNotebook(notebook="*")], save=False
)
"""All notebooks, all their cells: prose is completed too."""


class NotebookSync:
    """Keeps notebooks in step with the editor's; their cells' texts go where documents are kept."""

    def __init__(
        self,
        *,
        open_document: Callable[[types.TextDocumentItem], object],
        change_document: Callable[[types.VersionedTextDocumentIdentifier, Sequence[Any]], object],
        close_document: Callable[[str], None],
    ) -> None:
        """Start without any.

        Args:
            open_document: keeps a cell's text.
            change_document: edits it.
            close_document: forgets it; is asked for some that are forgotten already.
        """
        self.notebooks = Notebooks()
        self._open_document = open_document
        self._change_document = change_document
        self._close_document = close_document

    def open(self, params: types.DidOpenNotebookDocumentParams) -> None:
        """Keep a notebook and the texts of its cells."""
        notebook = params.notebook_document
        self.notebooks.open(notebook.uri, map(_cell, notebook.cells))
        for item in params.cell_text_documents:
            self._open_document(item)

    def change(self, params: types.DidChangeNotebookDocumentParams) -> None:
        """Take in cells that come, move and go, and edits of their texts."""
        notebook, cells = params.notebook_document.uri, params.change.cells
        if cells is None:
            return
        if cells.structure is not None:
            array = cells.structure.array
            new = map(_cell, array.cells or ())
            self.notebooks.replace(notebook, array.start, array.delete_count, new)
            for closed in cells.structure.did_close or ():
                self._close_document(closed.uri)
            for item in cells.structure.did_open or ():
                self._open_document(item)
        self.notebooks.update(notebook, map(_cell, cells.data or ()))
        for edited in cells.text_content or ():
            self._change_document(edited.document, edited.changes)

    def close(self, notebook: str) -> None:
        """Forget a notebook and all its cells."""
        for document in self.notebooks.close(notebook):
            self._close_document(document)


def _cell(cell: types.NotebookCell) -> Cell:
    return Cell(cell.document, cell.kind == types.NotebookCellKind.Code)
