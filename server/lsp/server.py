"""The language server: one client, its documents, its settings, and the completer behind them.

Handlers stay thin: they translate (`convert`) and hand on. Nothing here computes a completion.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from server import __version__
from server.documents import Document, Documents, Point
from server.lsp import convert, wording
from server.lsp.configuration import Configuration, Features, section
from server.lsp.connection import Connection
from server.lsp.growth import EMPTY, Growth
from server.lsp.lifeline import watch_parent
from server.lsp.notebook_sync import OPTIONS, NotebookSync
from server.lsp.positions import PositionEncoding, choose_encoding
from server.lsp.progress import WorkProgress
from server.lsp.protocol import InlineParams, Protocol, make_converter
from server.lsp.watching import file_path, folder_paths, registration, split_changes
from server.options import SECTION

if TYPE_CHECKING:
    from server.completion.completer import Completer
    from server.completion.request import CompletionRequest
    from server.completion.status import Status

logger = logging.getLogger(__name__)

STATUS = "foretype/status"
REQUESTS = "foretype/requests"
TASKS = "foretype/tasks"
DID_SHOW = "textDocument/didShowCompletion"
DID_PARTIALLY_ACCEPT = "textDocument/didPartiallyAcceptCompletion"
REFUSED = object()
ASK_S = 10.0
"""For the client to answer a request of ours. Guessed."""
CLOSE_S = 0.5
"""For the completer to close, and again for the last bytes to be written."""


class ForetypeServer(LanguageServer):
    """Serves one client until it goes away."""

    protocol: Protocol

    def __init__(self, command_line: Mapping[str, Any]) -> None:
        super().__init__(
            "foretype",
            __version__,
            protocol_cls=Protocol,
            converter_factory=make_converter,
            notebook_document_sync=OPTIONS,
        )
        self._configuration = Configuration(command_line)
        self._features = Features()
        self._documents = Documents()
        self.notebooks = NotebookSync(
            open_document=self._open,
            change_document=self._change,
            close_document=self.close_document,
        )
        self._encoding: PositionEncoding = "utf-16"
        self._line_end_is_fixed = False
        self._folders: list[str] = []
        self._completer: Completer | None = None
        self._connection: Connection | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._exit_code: int | None = None
        self._stopped = asyncio.Event()
        self._status_is_due = False
        self._reading: WorkProgress | None = None
        self._n_readings = 0
        self._register()

    def _register(self) -> None:
        features: dict[str, Callable[..., Any]] = {
            types.INITIALIZE: self._initialize,
            types.INITIALIZED: self._initialized,
            types.WORKSPACE_DID_CHANGE_CONFIGURATION: self._change_configuration,
            types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: self._change_folders,
            types.WORKSPACE_DID_CHANGE_WATCHED_FILES: self._change_files,
            types.TEXT_DOCUMENT_DID_SAVE: self._saved,
            STATUS: self._status,
            REQUESTS: self._requests,
            TASKS: self._tasks,
            DID_SHOW: self._shown,
            DID_PARTIALLY_ACCEPT: self._partially_accepted,
        }
        for method, handler in features.items():
            self.feature(method)(partial(handler))  # pygls hangs a name on what it registers
        # Without options pygls does not advertise the capability.
        inline = self.feature(
            types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions()
        )
        inline(partial(self._inline_completion))

        def accepted(completion_id: str = "") -> None:
            if self._completer is not None:
                self._completer.accepted(completion_id)

        self.command(convert.ACCEPTED_COMMAND)(accepted)

    # The server's life.

    def serve(self, connection: Connection, *, on_stop: Callable[[int], None]) -> int:
        """Serve a client until the end and return the exit code.

        Args:
            connection: its streams, not yet started.
            on_stop: is called with the exit code when the end has begun.
        """
        return asyncio.run(self._serve(connection, on_stop))

    async def _serve(self, connection: Connection, on_stop: Callable[[int], None]) -> int:
        self._connection = connection
        self.protocol.set_writer(connection)
        connection.start(
            asyncio.get_running_loop(),
            on_message=self.protocol.receive,
            on_oversized=self._refuse_oversized,
            on_closed=lambda: self.stop(0 if self.protocol.is_shut_down else 1),
        )
        await self._stopped.wait()
        code = self._exit_code or 0
        on_stop(code)
        await self._close()
        connection.close(CLOSE_S)
        return code

    def stop(self, code: int) -> None:
        """Begin the end; the first exit code counts."""
        if self._exit_code is None:
            self._exit_code = code
            self._stopped.set()

    async def _close(self) -> None:
        for task in self._background:
            task.cancel()
        if self._completer is not None:
            try:
                await asyncio.wait_for(self._completer.close(), CLOSE_S)
            except Exception as exc:  # the end must not fail
                logger.warning("closing: %s", told(exc))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Write an error to the log; pygls would show a pop-up, at every keystroke."""
        logger.error("a handler failed: %s", told(error))

    def _refuse_oversized(self) -> None:
        self.protocol.refuse(None, JsonRpcException("the message is too long", code=-32600))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("in the background: %s", told(exc))

    # Start.

    def _initialize(self, params: types.InitializeParams) -> None:
        self._features = Features.of(params.initialization_options)
        self._warn(self._configuration.start(params.initialization_options))
        general = params.capabilities.general
        self._encoding = choose_encoding(general.position_encodings if general else None)
        # Neovim 0.12 inserts a completion as lines split at \n: a \r would stay in the text, as ^M.
        # To be removed when runtime/lua/vim/lsp/inline_completion.lua drops it.
        self._line_end_is_fixed = bool(params.client_info and params.client_info.name == "Neovim")
        folders = [folder.uri for folder in params.workspace_folders or ()]
        self._folders = folders or ([params.root_uri] if params.root_uri else [])
        if params.process_id is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(watch_parent, params.process_id, self._parent_is_gone(loop))

    def _parent_is_gone(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        def tell() -> None:
            try:
                loop.call_soon_threadsafe(self.stop, 1)
            except RuntimeError:
                logger.debug("the server had stopped before")

        return tell

    def _initialized(self, _: types.InitializedParams) -> None:
        self._in_background(self._start())

    async def _start(self) -> None:
        # Not imported before: the editor waits for the answer to `initialize`.
        from server.completion.completer import Completer
        from server.plugins import Plugins

        options = self._configuration.options
        plugins = Plugins(options.blocked_plugins)
        self._completer = Completer(
            options, plugins, on_status=self._on_status, on_reading=self._show_reading
        )
        self._completer.start()
        self._in_background(self._show_loading(self._completer))
        await self._pull_configuration()
        await self._follow_configuration()
        self._completer.open_workspace(folder_paths(self._folders))
        for document in self._documents:
            if not self.notebooks.notebooks.neighbours(document, self._documents).notebook:
                self._warm(document)
                self._learn(document)
        await self._watch_files()

    async def _show_loading(self, completer: Completer) -> None:
        progress = WorkProgress(self.protocol.tell, "foretype-loading")
        await progress.begin(self._may_show_progress, "Foretype: loading the model")
        is_ready = await completer.wait_ready()
        progress.end("ready" if is_ready else "not ready")
        if not is_ready:  # A start that fails is one message that says what to set.
            text = completer.status.message
            self._message(types.WINDOW_SHOW_MESSAGE, types.MessageType.Error, text)

    def _show_reading(self, n_files: int | None) -> None:
        """Show how many files of the workspace were read; None: that was all."""
        if n_files is None:
            if self._reading is not None:
                self._reading.end("done")
            self._reading = None
        elif self._reading is not None:
            self._reading.report(f"{n_files:,} files")
        else:
            self._n_readings += 1
            token = f"foretype-reading-{self._n_readings}"
            self._reading = WorkProgress(self.protocol.tell, token)
            title = "Foretype: reading the workspace"
            self._in_background(self._reading.begin(self._may_show_progress, title))

    async def _may_show_progress(self, method: str, params: Mapping[str, Any]) -> bool:
        window = self.client_capabilities.window
        has_progress = bool(window and window.work_done_progress)
        return has_progress and await self._ask(method, params) is not REFUSED

    async def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Return what the client answers; `REFUSED` if it refuses or says nothing."""
        try:
            return await asyncio.wait_for(self.protocol.ask(method, params), ASK_S)
        except (JsonRpcException, TimeoutError):
            logger.info("the client refused %s", method)
            return REFUSED

    # Settings.

    async def _pull_configuration(self) -> None:
        workspace = self.client_capabilities.workspace
        if not (workspace and workspace.configuration):
            return
        items = {"items": [{"section": SECTION}]}
        answer = await self._ask(types.WORKSPACE_CONFIGURATION, items)
        if isinstance(answer, list) and answer:
            self._reload(answer[0])

    async def _follow_configuration(self) -> None:
        workspace = self.client_capabilities.workspace
        changes = workspace.did_change_configuration if workspace else None
        if not (changes and changes.dynamic_registration):
            return
        registration = {
            "id": "foretype-configuration",
            "method": types.WORKSPACE_DID_CHANGE_CONFIGURATION,
            "registerOptions": {"section": SECTION},
        }
        await self._ask(types.CLIENT_REGISTER_CAPABILITY, {"registrations": [registration]})

    def _change_configuration(self, params: types.DidChangeConfigurationParams) -> None:
        settings = section(params.settings)
        if settings is not None:
            self._reload(settings)
        else:
            self._in_background(self._pull_configuration())

    def _reload(self, settings: Any) -> None:
        self._warn(self._configuration.reload(settings))
        if self._completer is not None:
            self._completer.set_options(self._configuration.options)

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            logger.warning("%s", warning)
        if warnings:
            self._message(types.WINDOW_LOG_MESSAGE, types.MessageType.Warning, "; ".join(warnings))

    def _message(self, method: str, kind: types.MessageType, text: str) -> None:
        self.protocol.tell(method, {"type": kind.value, "message": f"Foretype: {text}"})

    def _change_folders(self, params: types.DidChangeWorkspaceFoldersParams) -> None:
        removed = {folder.uri for folder in params.event.removed}
        kept = [uri for uri in self._folders if uri not in removed]
        self._folders = kept + [folder.uri for folder in params.event.added]
        if self._completer is not None:
            self._completer.open_workspace(folder_paths(self._folders))

    # Files.

    async def _watch_files(self) -> None:
        workspace = self.client_capabilities.workspace
        watching = workspace.did_change_watched_files if workspace else None
        if not (watching and watching.dynamic_registration):
            self._look_for_changes()
            return
        from server.completion.ignore_rules import IGNORE_FILE
        from server.completion.workspace_files import NAMES, SUFFIXES

        watched = registration(sorted(SUFFIXES), sorted({*NAMES, IGNORE_FILE}))
        params = {"registrations": [watched]}
        if await self._ask(types.CLIENT_REGISTER_CAPABILITY, params) is REFUSED:
            self._look_for_changes()

    def _look_for_changes(self) -> None:
        if self._completer is not None and self._completer.learning is not None:
            self._completer.learning.look_regularly()

    def _change_files(self, params: types.DidChangeWatchedFilesParams) -> None:
        learning = self._completer.learning if self._completer is not None else None
        if learning is None:
            return
        changed, deleted = split_changes(params.changes)
        for path in deleted:
            learning.file_deleted(path)
        for path in changed:
            learning.file_changed(path)

    def _saved(self, params: types.DidSaveTextDocumentParams) -> None:
        """Read what was saved; a client that watches tells it twice, one that doesn't only here."""
        learning = self._completer.learning if self._completer is not None else None
        if learning is not None and (path := file_path(params.text_document.uri)) is not None:
            learning.file_changed(path)

    def _learn(self, document: Document) -> None:
        if self._completer is not None and self._completer.learning is not None:
            path = convert.relative_path(document.uri, self._folders)
            text, location = (lambda: document.lf_text), file_path(document.uri)
            self._completer.learning.document_changed(path, text, location)

    def _unlearn(self, uri: str) -> None:
        if self._completer is not None and self._completer.learning is not None:
            self._completer.learning.document_closed(convert.relative_path(uri, self._folders))

    # Documents.

    def open_document(self, params: types.DidOpenTextDocumentParams) -> None:
        """Keep a document, and warm what a completion at its end would need."""
        document = self._open(params.text_document)
        self._warm(document)
        self._learn(document)

    def _open(self, item: types.TextDocumentItem) -> Document:
        document = Document(
            uri=item.uri, language=str(item.language_id), version=item.version, text=item.text
        )
        self._documents.open(document)
        return document

    def change_document(self, params: types.DidChangeTextDocumentParams) -> None:
        """Apply edits in their order."""
        document = self._change(params.text_document, params.content_changes)
        if document is not None:
            self._learn(document)

    def _change(
        self, edited: types.VersionedTextDocumentIdentifier, changes: Sequence[Any]
    ) -> Document | None:
        document = self._documents.get(edited.uri)
        if document is None:
            logger.warning("an edit of a document that is not open")
            return None
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start = convert.point_at(document, change.range.start, self._encoding)
                end = convert.point_at(document, change.range.end, self._encoding)
                document.replace(start, end, change.text)
            else:
                document.set_text(change.text)
        document.version = edited.version
        return document

    def close_document(self, uri: str) -> None:
        """Forget a document."""
        if self._documents.close(uri) and self._completer is not None:
            self._completer.document_closed(uri)
            self._unlearn(uri)

    def lose_document(self, uri: str) -> None:
        """Forget a document whose edit could not be read: nothing is better than wrong text."""
        if self._documents.close(uri):
            logger.error("an edit could not be read; its document is ignored until it is reopened")
            if self._completer is not None:
                self._completer.document_closed(uri)
                self._unlearn(uri)

    def lose_notebook(self, uri: str) -> None:
        """Forget a notebook whose change could not be read, with all its cells."""
        logger.error("a change of a notebook could not be read; it is ignored until it is reopened")
        self.notebooks.close(uri)

    def _warm(self, document: Document) -> None:
        if self._completer is None:
            return
        last = document.n_lines - 1
        point = Point(last, len(document.line(last)))
        self._completer.warm(convert.completion_request(document, point, self._folders))

    # Completions.

    def _inline_completion(self, params: InlineParams) -> Any:
        """Look at the document now and answer later."""
        document = self._documents.get(params.text_document.uri)
        if document is None:
            self._note_nothing(params.text_document.uri, "the document is not open")
            return EMPTY
        if self._completer is None:
            return EMPTY
        point = convert.point_at(document, params.position, self._encoding)
        place = convert.place_at(document, point, self._encoding)
        if self._line_end_is_fixed:
            place = convert.with_line_end(place, "\n")
        neighbours = self.notebooks.notebooks.neighbours(document, self._documents)
        request = convert.inline_request(document, params, place, self._folders, neighbours)
        return self._complete(self._completer, request, place, params.partial_result_token)

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
            self.protocol.tell(types.PROGRESS, {"token": token, "value": items})

        return Growth(
            send, is_growing=self._features.is_growing, is_congested=lambda: self._is_congested
        )

    @property
    def _is_congested(self) -> bool:
        return self._connection is not None and self._connection.is_congested

    def _note_nothing(self, uri: str, reason: str) -> None:
        """Keep the reason of an answer that the completer was not asked for."""
        if self._completer is None:
            return
        from server.completion.records import RequestRecord

        self._completer.counters.requests += 1
        self._completer.requests.append(
            RequestRecord(document=uri, trigger="automatic", source="none", reason=reason)
        )

    # What the editor tells.

    def _shown(self, message: Any) -> None:
        if self._completer is not None and (name := convert.item_id(_field(message, "item"))):
            self._completer.shown(name)

    def _partially_accepted(self, message: Any) -> None:
        item = _field(message, "item")
        if self._completer is not None and (name := convert.item_id(item)):
            n_chars = convert.accepted_chars(item, _field(message, "acceptedLength"))
            self._completer.partially_accepted(name, n_chars)

    # What the editor may ask.

    def _status(self, _: Any) -> dict[str, Any]:
        return self._status_object()

    def _status_object(self) -> dict[str, Any]:
        from server.completion.engine import MemoryInfo
        from server.completion.records import Counters
        from server.completion.status import Status

        completer = self._completer
        requests = completer.requests if completer else ()
        return convert.status_object(
            completer.status if completer else Status(state="loading"),
            is_enabled=self._configuration.options.enabled,
            counters=completer.counters if completer else Counters(),
            memory=completer.memory if completer else MemoryInfo(),
            last=requests[-1] if requests else None,
        )

    def _on_status(self, _: Status) -> None:
        """Tell a client that wants to know, once per turn of the loop."""
        if self._features.wants_status and not self._status_is_due:
            self._status_is_due = True
            asyncio.get_running_loop().call_soon(self._send_status)

    def _send_status(self) -> None:
        self._status_is_due = False
        if not self._is_congested:
            self.protocol.tell(STATUS, self._status_object())

    def _requests(self, _: Any) -> dict[str, Any]:
        requests = self._completer.requests if self._completer else ()
        return {
            "requests": [convert.request_object(record) for record in requests],
            "table": wording.request_table(requests),
        }

    def _tasks(self, _: Any) -> dict[str, int]:
        return {
            "tasks": len(asyncio.all_tasks()),
            "running": self.protocol.n_running,
            "documents": len(self._documents),
        }


def told(exc: BaseException) -> str:
    """Return what failed and where, without the message: it may hold text of a document."""
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return type(exc).__name__ + where


def _field(message: Any, name: str) -> Any:
    """Return a field of untyped parameters.

    Raises:
        JsonRpcInvalidParams: there is none.
    """
    if not isinstance(message, dict) or name not in message:
        raise JsonRpcInvalidParams(f"{name} is missing")
    return message[name]
