"""The completer: requests pass the gates, find what is known, and are answered exactly once.

It puts the parts together and keeps them in step with settings, documents and the engine.

Does not know the protocol, token ids or tensors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from server.completion.ahead import Ahead
from server.completion.answering import Answering
from server.completion.engine import CancelToken, EngineInfo, MemoryInfo, WorkspaceFile
from server.completion.engine_room import EngineRoom
from server.completion.gates import Closed, closed_gate, document_gate
from server.completion.generation import Generation
from server.completion.handover import FRAME_S
from server.completion.offer_settings import engine_request, offer_settings
from server.completion.open_documents import OpenDocuments
from server.completion.pending import OnGrowth
from server.completion.records import Counters, new_ring, record
from server.completion.request import Answer, CompletionRequest
from server.completion.runs import Runs
from server.completion.scheduler import Clock, MonotonicClock
from server.completion.status import Status
from server.completion.status_board import StatusBoard
from server.completion.workspace.learning import WorkspaceLearning
from server.options import Options
from server.plugins import Plugins


class Completer:
    """Completes the documents of one server. Every method is called on the event loop."""

    def __init__(
        self,
        options: Options,
        plugins: Plugins,
        *,
        on_status: Callable[[Status], None],
        on_reading: Callable[[int | None], None] = lambda _: None,
        clock: Clock | None = None,
        frame_s: float = FRAME_S,
    ) -> None:
        """Be ready to start.

        Args:
            options: the settings.
            plugins: where engine, filters and context sources come from.
            on_status: is told what the server is doing.
            on_reading: is told how many files of the workspace were read so far, and None at the
                end.
            clock: the time.
            frame_s: so long growing text may be kept back, so that pieces come together.
        """
        self.counters = Counters()
        self.requests = new_ring()
        """The last requests, newest last."""
        self._options = options
        self._plugins = plugins
        self._board = StatusBoard(on_status)
        self._on_reading = on_reading
        self._clock = clock or MonotonicClock()
        self._frame_s = frame_s
        self._documents = OpenDocuments(options, plugins)
        self._ahead = Ahead(self._documents, self.counters, lambda: self._runs)
        self._switched_off: set[str] = set()
        """Documents that the user wants no completions in, until they are closed."""
        self._opened: dict[str, CompletionRequest] = {}
        """Places to warm that were named before there was an engine, by document."""
        self._room: EngineRoom | None = None
        self._answering: Answering | None = None
        self._learning: WorkspaceLearning | None = None
        self._folders: Sequence[Path] = ()
        self._loaded: asyncio.Future[str] | None = None

    @property
    def status(self) -> Status:
        """What the server is doing."""
        return self._board.status

    @property
    def _runs(self) -> Runs | None:
        """What the engine works on, where there is one."""
        return self._answering.runs if self._answering is not None else None

    # The engine's life.

    def start(self) -> None:
        """Load the engine in the background; `on_status` tells how it went."""
        self._loaded = asyncio.get_running_loop().create_future()
        self._room = EngineRoom(
            on_progress=self._board.loading,
            on_loaded=self._on_loaded,
            on_growth=self._on_growth,
            on_hang=self._board.restarting,
            frame_s=self._frame_s,
        )
        self._answering = Answering(self._room, self._clock, self._show_activity)
        self._learning = WorkspaceLearning(
            self._room,
            self._options,
            is_busy=lambda: self._documents.is_awaited,
            on_silenced=self._documents.forget_generated,
            on_reading=self._on_reading,
        )
        self._room.load(self._options, self._plugins)
        self._board.announce()

    async def wait_ready(self) -> bool:
        """Wait until the engine is loaded; False if it cannot be (the status says why)."""
        if self._loaded is None:
            return False
        return not await asyncio.shield(self._loaded)

    async def close(self) -> None:
        """Stop the engine and give back what it holds; open requests are answered first."""
        for document in self._documents:
            if document.pending is not None:
                document.pending.settle("closed")
        while self._documents.is_awaited:
            await asyncio.sleep(0)
        if self._learning is not None:
            self._learning.close()
        if self._room is not None:
            room, self._room, self._answering = self._room, None, None
            await room.close()

    @property
    def is_idle(self) -> bool:
        """Whether the engine does nothing and has nothing to do."""
        return self._room is None or (self._room.is_idle and not self._runs)

    @property
    def n_documents(self) -> int:
        """Documents of which something is remembered."""
        return len(self._documents)

    def _on_loaded(self, info: EngineInfo | None, error: str) -> None:
        if self._loaded is None or self._loaded.done():  # Another engine took over.
            self._loaded = asyncio.get_running_loop().create_future()
        self._loaded.set_result(error)
        self._board.loaded(info, error, is_enabled=self._options.enabled)
        opened, self._opened = self._opened, {}
        if not error:
            for request in opened.values():
                self.warm(request)
            if self._learning is not None:
                self._learning.start(self._folders)

    # Requests.

    async def complete(
        self, request: CompletionRequest, on_growth: OnGrowth | None = None
    ) -> Answer:
        """Answer one request, exactly once.

        Args:
            request: text, cursor and trigger.
            on_growth: is given the candidates so far, each text extending the earlier one.

        Raises:
            asyncio.CancelledError: the task was cancelled; the engine is told to stop.
        """
        started_s = self._clock.now()
        request = self._placed(request)
        self.counters.requests += 1
        answer = Answer(reason="cancelled")
        try:
            answer = await self._answer(request, on_growth, started_s)
        finally:
            total_ms = 1000 * (self._clock.now() - started_s)
            answer = replace(answer, total_ms=total_ms)
            self.requests.append(record(request, answer))
        self._ahead.answered(answer, self._options)
        return answer

    async def _answer(
        self, request: CompletionRequest, on_growth: OnGrowth | None, started_s: float
    ) -> Answer:
        if self._room is not None:
            self._room.catch_up()  # The text that was typed may just have been generated.
        document = self._documents[request.document]
        document.supersede()
        answering = self._answering
        if answering is not None and request.trigger == "automatic":
            answering.rhythm.keystroke(started_s)
        closed = (
            closed_gate(request, self._options)
            or document.undo_gate(request)
            or self._engine_gate()
        )
        document.request = request
        self._board.gate(closed)
        if closed is not None or answering is None:
            self._stop_unwanted()
            return Answer(reason=closed.reason if closed else "the server is shutting down")
        pending = self._documents.open(request, on_growth)
        self._stop_unwanted()
        try:
            answer = await answering.answer(pending, self._options, started_s)
        except asyncio.CancelledError:
            if document.pending is pending:
                answering.runs.stop(pending.generations)
            raise
        finally:
            if pending.preparing is not None:
                pending.preparing.cancel()
            if document.pending is pending:
                document.end(pending)
                self._show_activity()  # A generation that was stopped does not tell its end.
        if self._documents.get(request.document) is document:
            self._ahead.warm(document, self._options)
        return answer

    def _on_growth(self, generation: Generation) -> None:
        """Pass on what an engine's run brought: text, its end, or an error."""
        runs = self._runs
        if runs is None:
            return
        if generation.run is None:
            runs.ended(generation)
            if generation.error:
                self._board.failed(generation.error)
        document = self._documents.get(generation.request.document)
        pending = document.pending if document is not None else None
        if pending is not None and generation in pending.generations:
            pending.refresh()
            runs.leave(pending)
            if generation.run is None:
                runs.go_on(pending)  # It stopped for an older request that needed less.
        elif document is not None and generation.run is None:
            self._ahead.go_on(document)
        self._show_activity()

    def _stop_unwanted(self) -> None:
        """Stop the generations that no open request waits for."""
        if self._runs is not None:
            self._runs.stop_others(self._documents.wanted)
        self._show_activity()

    def warm(self, request: CompletionRequest) -> None:
        """Prefill in the background what a request at this place would need."""
        request = self._placed(request)
        if document_gate(request, self._options) is not None:
            return
        if self._loaded is None or not self._loaded.done():
            self._opened[request.document] = request
            return
        if self._room is None or self._engine_gate() is not None:
            return
        document = self._documents[request.document]
        document.request = request
        if document.pending is not None or not request.prefix.strip():
            return
        document.refresh_context(request, self._documents.gather_context)
        settings = offer_settings(request, self._options, document.context, 0)
        self._room.warm(engine_request(request, settings.generation), is_background=True)

    def document_closed(self, document: str) -> None:
        """Forget a document."""
        self._switched_off.discard(document)
        self._opened.pop(document, None)
        known = self._documents.close(document)
        if known is not None:
            if known.pending is not None:
                known.pending.settle("forgotten")
            if self._runs is not None:
                self._runs.stop(self._runs.of(document))
        if self._room is not None:
            self._room.forget(document)

    # The workspace.

    @property
    def learning(self) -> WorkspaceLearning | None:
        """Who is to be told of files and documents that change; None before the start."""
        return self._learning

    @property
    def memory(self) -> MemoryInfo:
        """How much the engine knows of the workspace."""
        return self._room.memory if self._room is not None else MemoryInfo()

    def learn(self, files: Sequence[WorkspaceFile]) -> None:
        """Let the engine learn texts that are given, on the caller's thread."""
        if self._room is not None:
            self._room.learn(files, CancelToken())

    def _placed(self, request: CompletionRequest) -> CompletionRequest:
        """Find out whether git ignores a request's file, and whether the user switched it off."""
        if self._learning is not None and self._learning.ignores(request.location):
            request = replace(request, is_ignored=True)
        return replace(request, is_off=request.document in self._switched_off)

    def open_workspace(self, folders: Sequence[Path]) -> None:
        """Let the engine learn these folders, now or as soon as it is loaded."""
        self._folders = tuple(folders)
        if self._learning is not None:
            self._learning.place(self._folders)
        is_loaded = self._loaded is not None and self._loaded.done() and not self._loaded.result()
        if self._learning is not None and is_loaded:
            self._learning.start(self._folders)

    # Settings and plugins.

    def set_options(self, options: Options) -> None:
        """Use other settings from the next request on."""
        self._options = options
        self._documents.set_options(options)
        if self._learning is not None:
            self._learning.set_options(options)
        self._board.switched(is_enabled=options.enabled)

    def is_switched_off(self, document: str) -> bool:
        """Whether the user wants no completions in one document."""
        return document in self._switched_off

    def switch(self, document: str) -> None:
        """Switch completions off for one document, or on again; until it is closed."""
        self._switched_off ^= {document}

    # What the editor tells.

    def look_at(self, request: CompletionRequest) -> None:
        """Let the status say whether there is anything for a document that the user turns to, and
        prefill what a request would need where the last one was.

        Args:
            request: at any place of it.
        """
        closed = closed_gate(self._placed(request), self._options)
        self._board.gate(None if closed is None or closed.scope == "place" else closed)
        known = self._documents.get(request.document)
        self.warm(known.request if known is not None and known.request is not None else request)

    def shown(self, completion_id: str) -> None:
        """Note that the editor showed a completion; it may tell so each time that it grows."""
        self._ahead.shown(completion_id, self._options)

    def accepted(self, completion_id: str) -> None:
        """Note that a completion was accepted as a whole."""
        self._ahead.accepted(completion_id, self._options)

    def partially_accepted(self, completion_id: str, n_chars: int) -> None:
        """Note that the first `n_chars` code points of a completion were accepted."""
        self._ahead.partially_accepted(completion_id)

    # What the user sees of it.

    def _engine_gate(self) -> Closed | None:
        if self._loaded is not None and self._loaded.done():
            error = self._loaded.result()
            return Closed(scope="engine", reason=error) if error else None
        return Closed(scope="engine", reason="the model is being loaded")

    def _show_activity(self) -> None:
        """Say busy or ready, with the engine that really runs now."""
        info = self._room.info if self._room is not None else self.status.engine
        is_busy = bool(self._runs) and self._documents.is_awaited
        self._board.activity(is_busy=is_busy, info=info)
