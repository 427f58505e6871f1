"""One request's life: gates, memory, debounce, generation, growing text, one answer.

Does not know the protocol, token ids or tensors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from server.completion.document import Document
from server.completion.engine import CancelToken, EngineInfo, MemoryInfo, WorkspaceFile
from server.completion.engine_room import EngineRoom
from server.completion.gates import Closed, closed_gate, document_gate
from server.completion.generation import Generation, Offer
from server.completion.memory import engine_request, offer_settings
from server.completion.pending import OnGrowth, Pending
from server.completion.plugin_chains import load_context, load_filters
from server.completion.records import Counters, new_ring, record
from server.completion.request import Answer, CompletionRequest, Source
from server.completion.runs import Runs
from server.completion.scheduler import (
    Clock,
    MonotonicClock,
    ServiceTime,
    TypingRhythm,
    debounce_s,
    done_within,
)
from server.completion.status import Status
from server.completion.status_board import StatusBoard
from server.completion.trimming import replaced_chars
from server.completion.workspace_learning import WorkspaceLearning
from server.options import Options
from server.plugins import Plugins

logger = logging.getLogger(__name__)

_REASONS = {"closed": "the server is shutting down", "forgotten": "the document was closed"}
_SUPERSEDED = Answer(is_superseded=True, reason="a newer request took over")


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
    ) -> None:
        self.counters = Counters()
        self.requests = new_ring()
        """The last requests, newest last."""
        self._options = options
        self._plugins = plugins
        self._board = StatusBoard(on_status)
        self._on_reading = on_reading
        """Is told how many files of the workspace were read so far, and None at the end."""
        self._clock = clock or MonotonicClock()
        self._documents: dict[str, Document] = {}
        self._offers: WeakValueDictionary[str, Offer] = WeakValueDictionary()
        """What is remembered, by id, for what the editor tells of it."""
        self._opened: dict[str, CompletionRequest] = {}
        """Places to warm that were named before there was an engine, by document."""
        self._last_shown = ""
        """Id of the completion that the editor showed last."""
        self._rhythm = TypingRhythm()
        self._room: EngineRoom | None = None
        self._runs: Runs | None = None
        self._learning: WorkspaceLearning | None = None
        self._folders: Sequence[Path] = ()
        self._loaded: asyncio.Future[str] | None = None
        self._filters = load_filters(options, plugins)
        self._sources = load_context(options, plugins)

    @property
    def status(self) -> Status:
        """What the server is doing."""
        return self._board.status

    # The engine's life.

    def start(self) -> None:
        """Load the engine in the background; `on_status` tells how it went."""
        self._loaded = asyncio.get_running_loop().create_future()
        self._room = EngineRoom(
            on_loaded=self._on_loaded, on_growth=self._on_growth, on_hang=self._board.restarting
        )
        self._runs = Runs(self._room, self._clock)
        self._learning = WorkspaceLearning(
            self._room,
            self._options,
            is_busy=lambda: self._is_awaited,
            on_silenced=self._forget_generated,
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
        for document in self._documents.values():
            if document.pending is not None:
                document.pending.settle("closed")
        while self._is_awaited:
            await asyncio.sleep(0)
        if self._learning is not None:
            self._learning.close()
        if self._room is not None:
            room, self._room, self._runs = self._room, None, None
            await room.close()

    @property
    def is_idle(self) -> bool:
        """Whether the engine does nothing and has nothing to do."""
        return self._room is None or (self._room.is_idle and not self._runs)

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
        if any(candidate.id == self._last_shown for candidate in answer.candidates[:1]):
            self._look_ahead(self._last_shown)
        return answer

    async def _answer(
        self, request: CompletionRequest, on_growth: OnGrowth | None, started_s: float
    ) -> Answer:
        document = self._documents.setdefault(request.document, Document())
        document.supersede()
        if request.trigger == "automatic":
            self._rhythm.keystroke(started_s)
        closed = (
            closed_gate(request, self._options)
            or document.undo_gate(request)
            or self._engine_gate()
        )
        document.request = request
        self._board.gate(closed)
        if closed is not None:
            self._stop_unwanted()
            return Answer(reason=closed.reason)
        pending = document.pending = self._open(document, request, on_growth)
        self._stop_unwanted()
        try:
            return await self._wait_for(pending, started_s)
        except asyncio.CancelledError:
            if document.pending is pending and self._runs is not None:
                self._runs.stop(pending.generations)
            raise
        finally:
            if pending.preparing is not None:
                pending.preparing.cancel()
            if document.pending is pending:
                document.pending = None
                self._show_activity()  # A generation that was stopped does not tell its end.

    def _open(
        self, document: Document, request: CompletionRequest, on_growth: OnGrowth | None
    ) -> Pending:
        """Find or make the offers that answer a request."""
        selected = request.selected_text
        effective = replace(request, prefix=request.prefix + selected, selected_text="")
        n_candidates = self._options.candidates if request.trigger == "invoked" else 1
        offers = [self._offer(document, effective, candidate) for candidate in range(n_candidates)]
        for offer, _ in offers:
            self._offers[offer.id] = offer
        return Pending(
            request=effective,
            selected_text=selected,
            offers=offers,
            on_growth=on_growth,
            settled=asyncio.get_running_loop().create_future(),
        )

    def _offer(
        self,
        document: Document,
        request: CompletionRequest,
        candidate: int = 0,
        follows_accept: bool | None = None,
    ) -> tuple[Offer, int]:
        return document.offer(
            request,
            candidate,
            options=self._options,
            filters=self._filters,
            gather=self._gather_context,
            follows_accept=follows_accept,
        )

    def _gather_context(self, request: CompletionRequest) -> str:
        """Ask the context sources, which are shown the other open documents."""
        opened = [
            document.as_open()
            for document in self._documents.values()
            if document.request is not None
            and document.request.document != request.document
            and document_gate(document.request, self._options) is None
            and not document.request.is_ignored
        ]
        others = tuple(one for one in reversed(opened) if one is not None)
        return self._sources(replace(request, open_documents=others))

    async def _wait_for(self, pending: Pending, started_s: float) -> Answer:
        source: Source = "cache"
        if not pending.is_complete:
            is_in_flight = pending.generations[0].run is not None
            source = "in_flight" if is_in_flight else "model"
        if self._runs is not None:
            self._runs.follow(pending)
        pending.refresh()
        if not pending.settled.done() and self._runs is not None:
            if source == "model" and pending.request.trigger == "automatic":
                await self._debounce(pending, self._runs.service)
            self._runs.go_on(pending)
            self._show_activity()
            spent_s = self._clock.now() - started_s
            deadline_s = self._options.deadline_ms / 1000
            await done_within(pending.settled, deadline_s - spent_s, self._clock)
            if pending.is_complete and pending.may_rank:
                await self._rank(pending, deadline_s - (self._clock.now() - started_s))
        if pending.settled.done() and pending.settled.result() == "superseded":
            return replace(_SUPERSEDED, source=source)
        candidates = pending.candidates()
        how = pending.settled.result() if pending.settled.done() else "complete"
        reason = _REASONS.get(how) or pending.reason()
        return Answer(
            candidates=candidates,
            source=source if candidates else "none",
            reason="" if candidates else reason,
            usage=pending.usage(),
        )

    async def _debounce(self, pending: Pending, service: ServiceTime) -> None:
        """Prefill at once, and wait for the next keystroke before decoding."""
        options = self._options
        wait_s = debounce_s(
            self._rhythm,
            service,
            options.debounce_ms / 1000,
            options.max_debounce_ms / 1000,
        )
        if wait_s > 0 and self._room is not None:
            request = pending.generations[0].continued()
            pending.preparing = self._room.warm(request, is_background=False)
            await done_within(pending.settled, wait_s, self._clock)

    async def _rank(self, pending: Pending, left_s: float) -> None:
        """Order the candidates by what stands after the cursor, where time and engine allow it."""
        asked = pending.continuations()
        is_open = not pending.settled.done() or pending.settled.result() == "complete"
        if self._room is None or not is_open or not all(text for _, text in asked):
            return
        ratings, pending.preparing = self._room.rate(asked)
        pending.reopen(asyncio.get_running_loop().create_future())
        ratings.add_done_callback(lambda _: pending.settle("complete"))
        await done_within(pending.settled, left_s, self._clock)
        if ratings.done():
            pending.rank(ratings.result())

    def _on_growth(self, generation: Generation) -> None:
        """Pass on what an engine's run brought: text, its end, or an error."""
        if self._runs is None:
            return
        if generation.run is None:
            self._runs.ended(generation)
            if generation.error:
                self._board.failed(generation.error)
        document = self._documents.get(generation.request.document)
        pending = document.pending if document is not None else None
        if pending is not None and generation in pending.generations:
            pending.refresh()
            self._runs.leave(pending)
            if generation.run is None:
                self._runs.go_on(pending)  # It stopped for an older request that needed less.
        elif document is not None and generation.run is None:
            self._go_ahead(document)
        self._show_activity()

    def _stop_unwanted(self) -> None:
        """Stop the generations that no open request waits for."""
        wanted = {
            generation
            for document in self._documents.values()
            if document.pending is not None
            for generation in document.pending.generations
        }
        if self._runs is not None:
            self._runs.stop_others(wanted)
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
        document = self._documents.setdefault(request.document, Document())
        document.request = request
        if document.pending is not None or not request.prefix.strip():
            return
        document.refresh_context(request, self._gather_context)
        settings = offer_settings(request, self._options, document.context, 0)
        self._room.warm(engine_request(request, settings.generation), is_background=True)

    def document_closed(self, document: str) -> None:
        """Forget a document."""
        self._opened.pop(document, None)
        known = self._documents.pop(document, None)
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
        """Find out whether git ignores a request's file."""
        if self._learning is None or not self._learning.ignores(request.location):
            return request
        return replace(request, is_ignored=True)

    def open_workspace(self, folders: Sequence[Path]) -> None:
        """Let the engine learn these folders, now or as soon as it is loaded."""
        self._folders = tuple(folders)
        if self._learning is not None:
            self._learning.place(self._folders)
        is_loaded = self._loaded is not None and self._loaded.done() and not self._loaded.result()
        if self._learning is not None and is_loaded:
            self._learning.start(self._folders)

    def _forget_generated(self) -> None:
        """Forget what was generated: it may be text of files that must not speak any more."""
        for document in self._documents.values():
            document.forget_generated()

    # Settings and plugins.

    def set_options(self, options: Options) -> None:
        """Use other settings from the next request on."""
        has_other_plugins = (options.filters, options.context_sources) != (
            self._options.filters,
            self._options.context_sources,
        )
        self._options = options
        if self._learning is not None:
            self._learning.set_options(options)
        if has_other_plugins:
            self._filters = load_filters(options, self._plugins)
            self._sources = load_context(options, self._plugins)
            for document in self._documents.values():
                document.forget_context()
        self._board.switched(is_enabled=options.enabled)

    # What the editor tells.

    def shown(self, completion_id: str) -> None:
        """Count a completion that the editor showed; what comes after it is generated ahead."""
        self.counters.shown += 1
        self._last_shown = completion_id
        self._look_ahead(completion_id)

    def accepted(self, completion_id: str) -> None:
        """Count a completion that was accepted as a whole; what comes after it is due."""
        self.counters.accepted += 1
        self._note_accept(completion_id, is_whole=True)
        self._look_ahead(completion_id)

    def partially_accepted(self, completion_id: str, n_chars: int) -> None:
        """Count a completion of which the first `n_chars` code points were accepted."""
        self.counters.partially_accepted += 1
        self._note_accept(completion_id, is_whole=False)

    def _note_accept(self, completion_id: str, *, is_whole: bool) -> None:
        offer = self._offers.get(completion_id)
        document = self._documents.get(offer.request.document) if offer is not None else None
        if offer is not None and document is not None:
            document.note_accept(offer, is_whole=is_whole)

    def _look_ahead(self, completion_id: str) -> None:
        """Generate in idle time what is asked for once an offer is accepted.

        Nobody waits for it: any request stops it, and goes on with it where it fits.
        """
        offer = self._offers.get(completion_id)
        document = self._documents.get(offer.request.document) if offer is not None else None
        if self._room is None or offer is None or document is None or document.pending:
            return
        after = replace(offer.request, prefix=offer.prefix + offer.text, trigger="automatic")
        replaces = replaced_chars(offer.text, offer.request) > 0
        if not offer.is_complete or replaces or closed_gate(after, self._options):
            return
        document.ahead, _ = self._offer(document, after, follows_accept=True)
        self._go_ahead(document)

    def _go_ahead(self, document: Document) -> None:
        """Let the engine go on with what is generated ahead, as long as nobody asks."""
        if self._runs is None or document.ahead is None or document.pending is not None:
            return
        if not self._runs.go_ahead(document.ahead):
            document.ahead = None

    # What the user sees of it.

    def _engine_gate(self) -> Closed | None:
        if self._loaded is not None and self._loaded.done():
            error = self._loaded.result()
            return Closed(scope="engine", reason=error) if error else None
        return Closed(scope="engine", reason="the model is being loaded")

    def _show_activity(self) -> None:
        """Say busy or ready, with the engine that really runs now."""
        info = self._room.info if self._room is not None else self.status.engine
        self._board.activity(is_busy=bool(self._runs) and self._is_awaited, info=info)

    @property
    def _is_awaited(self) -> bool:
        """Whether somebody waits for an answer; may be asked from any thread."""
        return any(document.pending is not None for document in list(self._documents.values()))
