"""The language server: the life of one client's conversation, and which part handles what.

Handlers stand in the parts: `document_sync`, `workspace`, `settings`, `inline`, `reports` and
`choices`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from server import __version__
from server.documents import Document
from server.errors import told
from server.exit_codes import ExitCode
from server.lsp.choices import MENU, Choices
from server.lsp.configuration import Configuration, Features
from server.lsp.connection import Connection
from server.lsp.convert import ACCEPTED_COMMAND
from server.lsp.document_sync import DocumentSync
from server.lsp.editor import Editor
from server.lsp.inline import InlineCompletions
from server.lsp.lifeline import watch_parent
from server.lsp.menu import SWITCH_COMMAND
from server.lsp.notebook_sync import OPTIONS
from server.lsp.positions import choose_encoding
from server.lsp.progress import WorkProgress
from server.lsp.protocol import Host, Protocol
from server.lsp.reports import DID_PARTIALLY_ACCEPT, DID_SHOW, REQUESTS, STATUS, Reports
from server.lsp.settings import Settings
from server.lsp.structures import make_converter
from server.lsp.workspace import Workspace
from server.options import Options

if TYPE_CHECKING:
    from server.completion.completer import Completer

logger = logging.getLogger(__name__)

TASKS = "foretype/tasks"
CLOSE_S = 0.5
"""For the completer to close, and again for the last bytes to be written."""


class ForetypeServer(Host):
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
        self._completer: Completer | None = None
        self._connection: Connection | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._exit_code: int | None = None
        self._is_started = False
        self._stopped = asyncio.Event()
        self._loading: WorkProgress | None = None
        self._reading: WorkProgress | None = None
        self._n_readings = 0
        self._make_parts(Configuration(command_line))
        self._register()

    def _make_parts(self, configuration: Configuration) -> None:
        def completer() -> Completer | None:
            return self._completer

        def is_congested() -> bool:
            return self._connection is not None and self._connection.is_congested

        self._editor = Editor(self.protocol)
        self._workspace = Workspace(self._editor, completer)
        self.documents = DocumentSync(
            on_open=self._workspace.opened,
            on_change=self._workspace.changed,
            on_close=self._workspace.closed,
        )
        self._settings = Settings(
            configuration,
            self._editor,
            on_change=self._set_options,
            in_background=self._in_background,
        )
        self._inline = InlineCompletions(
            documents=self.documents,
            workspace=self._workspace,
            editor=self._editor,
            completer=completer,
            is_congested=is_congested,
        )
        self._reports = Reports(
            editor=self._editor,
            completer=completer,
            is_enabled=lambda: self._settings.options.enabled,
            is_congested=is_congested,
            on_loading=self._show_percent,
        )
        self._choices = Choices(
            documents=self.documents,
            workspace=self._workspace,
            completer=completer,
            options=lambda: self._settings.options,
        )

    def _register(self) -> None:
        features: dict[str, Callable[..., Any]] = {
            types.INITIALIZE: self._initialize,
            types.INITIALIZED: self._initialized,
            types.WORKSPACE_DID_CHANGE_CONFIGURATION: self._settings.changed,
            types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: self._workspace.folders_changed,
            types.WORKSPACE_DID_CHANGE_WATCHED_FILES: self._workspace.files_changed,
            types.TEXT_DOCUMENT_DID_SAVE: self._workspace.saved,
            STATUS: self._status,
            MENU: self._choices.menu,
            REQUESTS: self._reports.requests,
            TASKS: self._tasks,
            DID_SHOW: self._reports.shown,
            DID_PARTIALLY_ACCEPT: self._reports.partially_accepted,
        }
        for method, handler in features.items():
            self.feature(method)(partial(handler))  # pygls hangs a name on what it registers
        # Without options pygls does not advertise the capability.
        inline = self.feature(
            types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions()
        )
        inline(partial(self._inline.answer))

        def accepted(completion_id: str = "") -> None:  # pygls reads the annotations
            self._reports.accepted(completion_id)

        def switch(uri: str = "") -> None:
            self._choices.switch(uri)

        self.command(ACCEPTED_COMMAND)(accepted)
        self.command(SWITCH_COMMAND)(switch)

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
        asyncio.get_running_loop().set_exception_handler(_log_forgotten)
        self.protocol.set_writer(connection)
        connection.start(
            asyncio.get_running_loop(),
            on_message=self.protocol.receive,
            on_oversized=self._refuse_oversized,
            on_closed=self._client_is_gone,
        )
        await self._stopped.wait()
        code = self._exit_code or 0
        on_stop(code)
        await self._close()
        connection.close(CLOSE_S)
        return code

    def _client_is_gone(self) -> None:
        self.stop(ExitCode.DONE if self.protocol.is_shut_down else ExitCode.FAILED)

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
        features = Features.of(params.initialization_options)
        self._inline.is_growing = features.is_growing
        self._reports.wants_status = features.wants_status
        self._settings.start(params.initialization_options)
        general = params.capabilities.general
        self.documents.encoding = choose_encoding(general.position_encodings if general else None)
        is_neovim = bool(params.client_info and params.client_info.name == "Neovim")
        self._inline.has_fixed_line_end = is_neovim
        self._workspace.start(params)
        if params.process_id is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(watch_parent, params.process_id, self._parent_is_gone(loop))

    def _parent_is_gone(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        def tell() -> None:
            try:
                loop.call_soon_threadsafe(self.stop, ExitCode.FAILED)
            except RuntimeError:
                logger.debug("the server had stopped before")

        return tell

    def _initialized(self, _: types.InitializedParams) -> None:
        if not self._is_started:  # A client that says it twice would have two models loaded.
            self._is_started = True
            self._in_background(self._start())

    async def _start(self) -> None:
        # Not imported before: the editor waits for the answer to `initialize`.
        from server.completion.completer import Completer
        from server.plugins import Plugins

        options = self._settings.options
        self._completer = Completer(
            options,
            Plugins(options.blocked_plugins),
            on_status=self._reports.on_status,
            on_reading=self._show_reading,
        )
        self._completer.start()
        self._in_background(self._show_loading(self._completer))
        await self._settings.pull()
        await self._settings.follow()
        await self._workspace.read(filter(self._stands_alone, self.documents.store))

    def _stands_alone(self, document: Document) -> bool:
        """Whether a document is no cell of a notebook."""
        return not self.documents.neighbours(document).notebook

    def _set_options(self, options: Options) -> None:
        if self._completer is not None:
            self._completer.set_options(options)

    # What the editor is shown.

    async def _show_loading(self, completer: Completer) -> None:
        progress = self._loading = WorkProgress(self._editor.tell, "foretype-loading")
        title, percent = "Foretype: loading the model", completer.status.percent
        await progress.begin(self._editor.may_show_progress, title, percent)
        is_ready = await completer.wait_ready()
        self._loading = None
        progress.end("ready" if is_ready else "not ready")
        if not is_ready:  # A start that fails is one message that says what to set.
            self._editor.show(completer.status.message)

    def _show_percent(self, percent: int) -> None:
        if self._loading is not None:
            self._loading.report(f"{percent}%", percent)

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
            self._reading = WorkProgress(self._editor.tell, token)
            title = "Foretype: reading the workspace"
            self._in_background(self._reading.begin(self._editor.may_show_progress, title))

    def _status(self, message: Any) -> dict[str, Any]:
        self._choices.turn_to(message)
        return self._reports.status()

    def _tasks(self, _: Any) -> dict[str, int]:
        return {
            "tasks": len(asyncio.all_tasks()),
            "running": self.protocol.n_running,
            "documents": len(self.documents.store),
        }


def _log_forgotten(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a task or callback raised and nobody asked for; asyncio would log its message."""
    exc = context.get("exception")
    logger.error("on the event loop: %s", told(exc) if exc is not None else context["message"])
