"""What of the workspace goes to the completer: folders, files that change, open documents.

Does not know how any of it is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lsprotocol import types

from server.documents import Document, Point
from server.lsp import convert
from server.lsp.editor import REFUSED, Editor
from server.lsp.watching import file_path, folder_paths, registration, split_changes

if TYPE_CHECKING:
    from server.completion.completer import Completer
    from server.completion.request import CompletionRequest
    from server.completion.workspace.learning import WorkspaceLearning


class Workspace:
    """The folders that are open in the editor, and what in them is told to the completer."""

    def __init__(self, editor: Editor, completer: Callable[[], Completer | None]) -> None:
        """Start without folders.

        Args:
            editor: is asked to watch files.
            completer: returns it, or None until there is one.
        """
        self.folders: list[str] = []
        """Their URIs."""
        self._editor = editor
        self._completer = completer

    @property
    def _learning(self) -> WorkspaceLearning | None:
        completer = self._completer()
        return completer.learning if completer is not None else None

    def start(self, params: types.InitializeParams) -> None:
        """Take in the folders that came with `initialize`."""
        folders = [folder.uri for folder in params.workspace_folders or ()]
        self.folders = folders or ([params.root_uri] if params.root_uri else [])

    async def read(self, opened: Iterable[Document]) -> None:
        """Begin to learn the folders and what is open, and to follow changes."""
        self._read_folders()
        for document in opened:
            self.opened(document)
        await self._watch_files()

    def folders_changed(self, params: types.DidChangeWorkspaceFoldersParams) -> None:
        """Follow folders that come and go."""
        removed = {folder.uri for folder in params.event.removed}
        kept = [uri for uri in self.folders if uri not in removed]
        self.folders = kept + [folder.uri for folder in params.event.added]
        self._read_folders()

    def _read_folders(self) -> None:
        if (completer := self._completer()) is not None:
            completer.open_workspace(folder_paths(self.folders))

    # Files.

    async def _watch_files(self) -> None:
        watching = self._editor.workspace.did_change_watched_files
        if not (watching and watching.dynamic_registration):
            self._look_for_changes()
            return
        from server.completion.workspace.files import NAMES, SUFFIXES
        from server.completion.workspace.ignore_rules import IGNORE_FILE

        watched = registration(sorted(SUFFIXES), sorted({*NAMES, IGNORE_FILE}))
        params = {"registrations": [watched]}
        if await self._editor.ask(types.CLIENT_REGISTER_CAPABILITY, params) is REFUSED:
            self._look_for_changes()

    def _look_for_changes(self) -> None:
        if (learning := self._learning) is not None:
            learning.look_regularly()

    def files_changed(self, params: types.DidChangeWatchedFilesParams) -> None:
        """Follow files that come, change and go."""
        if (learning := self._learning) is None:
            return
        changed, deleted = split_changes(params.changes)
        for path in deleted:
            learning.file_deleted(path)
        for path in changed:
            learning.file_changed(path)

    def saved(self, params: types.DidSaveTextDocumentParams) -> None:
        """Read what was saved; a client that watches tells it twice, one that doesn't only here."""
        learning, path = self._learning, file_path(params.text_document.uri)
        if learning is not None and path is not None:
            learning.file_changed(path)

    # Open documents.

    def opened(self, document: Document) -> None:
        """Warm what a completion at a document's end would need, and learn its text."""
        if (completer := self._completer()) is not None:
            completer.warm(self.request_at_end(document))
        self.changed(document)

    def request_at_end(self, document: Document) -> CompletionRequest:
        """Return the request that typing at a document's end would make."""
        last = document.n_lines - 1
        point = Point(last, len(document.line(last)))
        return convert.completion_request(document, point, self.folders)

    def changed(self, document: Document) -> None:
        """Learn a document's text."""
        if (learning := self._learning) is not None:
            path = convert.relative_path(document.uri, self.folders)
            text, location = (lambda: document.lf_text), file_path(document.uri)
            learning.document_changed(path, text, location)

    def closed(self, uri: str) -> None:
        """Drop what was kept for a document."""
        if (completer := self._completer()) is not None:
            completer.document_closed(uri)
        if (learning := self._learning) is not None:
            learning.document_closed(convert.relative_path(uri, self.folders))
