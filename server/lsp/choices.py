"""What the user may switch and choose, and the document that the user turns to.

The words are `menu`'s; what is switched is kept by the completer, and settings by the editor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from server.documents import Document
from server.lsp import menu
from server.lsp.document_sync import DocumentSync
from server.lsp.workspace import Workspace
from server.options import Options

if TYPE_CHECKING:
    from server.completion.completer import Completer

MENU = "foretype/menu"


class Choices:
    """Answers for the document that the user is in, if it is open."""

    def __init__(
        self,
        *,
        documents: DocumentSync,
        workspace: Workspace,
        completer: Callable[[], Completer | None],
        options: Callable[[], Options],
    ) -> None:
        self._documents = documents
        self._workspace = workspace
        self._completer = completer
        self._options = options

    def menu(self, message: Any) -> dict[str, Any]:
        """Return the entries of the menu for a document, or those that need none."""
        from server.bundle import named_bundles

        options, completer, document = self._options(), self._completer(), self._document(message)
        switches = menu.entries(
            options,
            uri=document.uri if document else "",
            language=document.language if document else "",
            is_off=bool(document and completer and completer.is_switched_off(document.uri)),
        )
        return {"entries": [*switches, menu.model_entry(options.model, named_bundles())]}

    def switch(self, uri: str) -> None:
        """Switch completions off for a document, or on again, and let the status say so."""
        completer = self._completer()
        if completer is not None and self._document({"uri": uri}) is not None:
            completer.switch(uri)
            self.turn_to({"uri": uri})

    def turn_to(self, message: Any) -> None:
        """Let the status be that of a document, if one is named."""
        document, completer = self._document(message), self._completer()
        if document is not None and completer is not None:
            completer.look_at(self._workspace.request_at_end(document))

    def _document(self, message: Any) -> Document | None:
        uri = message.get("uri") if isinstance(message, dict) else None
        return self._documents.store.get(uri) if isinstance(uri, str) else None
