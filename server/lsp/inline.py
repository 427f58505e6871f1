"""`textDocument/inlineCompletion`: from its parameters to its one answer, growing in between.

Nothing here computes a completion.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from server.documents import Document
from server.errors import told
from server.lsp import convert
from server.lsp.document_sync import DocumentSync
from server.lsp.editor import Editor
from server.lsp.growth import EMPTY, Growth
from server.lsp.structures import InlineParams
from server.lsp.workspace import Workspace

if TYPE_CHECKING:
    from server.completion.completer import Completer
    from server.completion.request import CompletionRequest

logger = logging.getLogger(__name__)


class InlineCompletions:
    """Answers the requests of one client."""

    def __init__(
        self,
        *,
        documents: DocumentSync,
        workspace: Workspace,
        editor: Editor,
        completer: Callable[[], Completer | None],
        is_congested: Callable[[], bool],
    ) -> None:
        """Serve a client of which nothing is known yet.

        Args:
            documents: what is open.
            workspace: the folders that paths are told from.
            editor: is told of growing text.
            completer: returns it, or None until there is one.
            is_congested: whether the client reads more slowly than we write.
        """
        self.is_growing = False
        """The client opted in to growing text."""
        self.has_fixed_line_end = False
        """Neovim 0.12 inserts a completion as lines split at \\n: a \\r would stay, as ^M.
        To be removed when runtime/lua/vim/lsp/inline_completion.lua drops it."""
        self._documents = documents
        self._workspace = workspace
        self._editor = editor
        self._completer = completer
        self._is_congested = is_congested

    def answer(self, params: InlineParams) -> Any:
        """Look at the document now and answer later."""
        document = self._documents.store.get(params.text_document.uri)
        completer = self._completer()
        if document is None:
            self._note_nothing(params.text_document.uri, "the document is not open")
            return EMPTY
        if completer is None:
            return EMPTY
        encoding, folders = self._documents.encoding, self._workspace.folders
        point = convert.point_at(document, params.position, encoding)
        place = convert.place_at(document, point, encoding)
        if self.has_fixed_line_end:
            place = convert.with_line_end(place, "\n")
        neighbours = self._documents.neighbours(document)
        request = convert.inline_request(document, params, place, folders, neighbours)
        token = params.partial_result_token
        return self._complete_open(document, completer, request, place, token)

    async def _complete_open(
        self,
        document: Document,
        completer: Completer,
        request: CompletionRequest,
        place: convert.Place,
        token: int | str | None,
    ) -> Any:
        """Complete, unless the document was closed before this task had its first turn: the
        completer was told so already, and would remember the document for ever.
        """
        if self._documents.store.get(request.document) is not document:
            self._note_nothing(request.document, "the document was closed")
            return EMPTY
        return await self._complete(completer, request, place, token)

    async def _complete(
        self,
        completer: Completer,
        request: CompletionRequest,
        place: convert.Place,
        token: int | str | None,
    ) -> Any:
        growth = self._growth(token) if token is not None else None
        on_growth = None
        if growth is not None:
            grow = growth.grow

            def on_growth(candidates: Any) -> None:
                grow(convert.items(candidates, place))

        try:
            answer = await completer.complete(request, on_growth)
            if answer.is_superseded:
                return None
            items = convert.items(answer.candidates, place)
            return growth.finish(items) if growth is not None else {"items": items}
        except Exception as exc:  # an error would be a pop-up at every keystroke
            logger.error("a completion failed: %s", told(exc))
            return EMPTY
        finally:
            if growth is not None:
                growth.close()

    def _growth(self, token: int | str) -> Growth:
        def send(items: list[dict[str, Any]]) -> None:
            self._editor.tell(types.PROGRESS, {"token": token, "value": items})

        return Growth(send, is_growing=self.is_growing, is_congested=self._is_congested)

    def _note_nothing(self, uri: str, reason: str) -> None:
        """Keep the reason of an answer that the completer was not asked for."""
        if (completer := self._completer()) is None:
            return
        from server.completion.records import RequestRecord

        completer.counters.requests += 1
        completer.requests.append(
            RequestRecord(document=uri, trigger="automatic", source="none", reason=reason)
        )
