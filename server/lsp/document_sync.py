"""Documents and notebooks as the protocol tells of them, kept in our store.

Does not know what anybody makes of a text; who cares is told that it came, changed or went.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from lsprotocol import types

from server.documents import Document, Documents
from server.lsp import convert
from server.lsp.notebook_sync import NotebookSync
from server.lsp.positions import PositionEncoding
from server.notebooks import Neighbours

logger = logging.getLogger(__name__)


class DocumentSync:
    """The editor's open documents."""

    def __init__(
        self,
        *,
        on_open: Callable[[Document], None],
        on_change: Callable[[Document], None],
        on_close: Callable[[str], None],
    ) -> None:
        """Start without any.

        Args:
            on_open: is told of a document of its own; cells of notebooks come unannounced.
            on_change: is told after its edits.
            on_close: is told the URI of any that was known, cells too.
        """
        self.store = Documents()
        self.encoding: PositionEncoding = "utf-16"
        """How the client counts columns."""
        self.notebooks = NotebookSync(
            open_document=self._open, change_document=self._change, close_document=self.close
        )
        self._on_open = on_open
        self._on_change = on_change
        self._on_close = on_close

    def neighbours(self, document: Document) -> Neighbours:
        """Return the cells around a document, if it is one itself."""
        return self.notebooks.notebooks.neighbours(document, self.store)

    def open(self, params: types.DidOpenTextDocumentParams) -> None:
        """Keep a document."""
        self._on_open(self._open(params.text_document))

    def _open(self, item: types.TextDocumentItem) -> Document:
        document = Document(
            uri=item.uri, language=str(item.language_id), version=item.version, text=item.text
        )
        self.store.open(document)
        return document

    def change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Apply edits in their order."""
        document = self._change(params.text_document, params.content_changes)
        if document is not None:
            self._on_change(document)

    def _change(
        self, edited: types.VersionedTextDocumentIdentifier, changes: Sequence[Any]
    ) -> Document | None:
        document = self.store.get(edited.uri)
        if document is None:
            logger.warning("an edit of a document that is not open")
            return None
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start = convert.point_at(document, change.range.start, self.encoding)
                end = convert.point_at(document, change.range.end, self.encoding)
                document.replace(start, end, change.text)
            else:
                document.set_text(change.text)
        document.version = edited.version
        return document

    def close(self, uri: str) -> None:
        """Forget a document."""
        if self.store.close(uri):
            self._on_close(uri)

    def lose(self, uri: str) -> None:
        """Forget a document whose edit could not be read: nothing is better than wrong text."""
        if self.store.close(uri):
            logger.error("an edit could not be read; its document is ignored until it is reopened")
            self._on_close(uri)

    def lose_notebook(self, uri: str) -> None:
        """Forget a notebook whose change could not be read, with all its cells."""
        logger.error("a change of a notebook could not be read; it is ignored until it is reopened")
        self.notebooks.close(uri)
