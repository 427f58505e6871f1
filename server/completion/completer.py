"""One request's life: gates, memory, debounce, generation, growing text, one answer.

Does not know the protocol, token ids or tensors.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from server.completion.context import ContextChain
from server.completion.engine import EngineInfo, EngineUsage
from server.completion.engine_room import EngineRoom
from server.completion.filters import FilterChain
from server.completion.gates import Closed, closed_gate, document_gate
from server.completion.generation import Generation, Offer
from server.completion.memory import DocumentMemory, engine_request, offer_settings
from server.completion.pending import OnGrowth, Pending
from server.completion.records import Counters, new_ring, record
from server.completion.request import Answer, CompletionRequest, Source
from server.completion.scheduler import (
    Clock,
    MonotonicClock,
    ServiceTime,
    TypingRhythm,
    debounce_s,
    done_within,
)
from server.completion.status import Status
from server.completion.trimming import replaced_chars
from server.errors import PluginError
from server.options import Options
from server.plugins import Group, Plugins

logger = logging.getLogger(__name__)

_REASONS = {"closed": "the server is shutting down", "forgotten": "the document was closed"}
_KEPT_OFFERS = 200
"""Offers that an editor may still tell of (guessed)."""
_SUPERSEDED = Answer(is_superseded=True, reason="a newer request took over")


@dataclass(slots=True)
class _Document:
    memory: DocumentMemory = field(default_factory=DocumentMemory)
    pending: Pending | None = None
    accepted: Offer | None = None
    """The offer that was accepted last: at its end the next line is due."""
    ahead: Offer | None = None
    """What is generated in idle time."""
    prefix: str = ""
    """Text before the cursor at the last request."""
    undone: str | None = None
    """Text before the cursor before something was accepted: to come back to it is an undo."""


class Completer:
    """Completes the documents of one server. Every method is called on the event loop."""

    def __init__(
        self,
        options: Options,
        plugins: Plugins,
        *,
        on_status: Callable[[Status], None],
        clock: Clock | None = None,
    ) -> None:
        self.counters = Counters()
        self.requests = new_ring()
        """The last requests, newest last."""
        self.status = Status(state="loading", message="the model is being loaded")
        self._options = options
        self._plugins = plugins
        self._on_status = on_status
        self._clock = clock or MonotonicClock()
        self._documents: dict[str, _Document] = {}
        self._running: set[Generation] = set()
        self._offers: OrderedDict[str, Offer] = OrderedDict()
        """The last offers by id, for what the editor tells of them."""
        self._rhythm = TypingRhythm()
        self._service = ServiceTime()
        self._room: EngineRoom | None = None
        self._loaded: asyncio.Future[str] | None = None
        self._load_chains()

    # The engine's life.

    def start(self) -> None:
        """Load the engine in the background; `on_status` tells how it went."""
        self._loaded = asyncio.get_running_loop().create_future()
        self._room = EngineRoom(on_loaded=self._on_loaded, on_growth=self._on_growth)
        self._room.load(self._options, self._plugins)
        self._on_status(self.status)

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
        while any(document.pending is not None for document in self._documents.values()):
            await asyncio.sleep(0)
        if self._room is not None:
            room, self._room = self._room, None
            await room.close()

    @property
    def is_idle(self) -> bool:
        """Whether the engine does nothing and has nothing to do."""
        return self._room is None or (self._room.is_idle and not self._running)

    def _on_loaded(self, info: EngineInfo | None, error: str) -> None:
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(error)
        if error:
            self._set_status(Status(state="error", message=error))
        else:
            self._set_status(Status(state="ready" if self._options.enabled else "off", engine=info))

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
        self.counters.requests += 1
        answer = Answer(reason="cancelled")
        try:
            answer = await self._answer(request, on_growth, started_s)
        finally:
            total_ms = 1000 * (self._clock.now() - started_s)
            answer = replace(answer, total_ms=total_ms)
            self.requests.append(record(request, answer))
        return answer

    async def _answer(
        self, request: CompletionRequest, on_growth: OnGrowth | None, started_s: float
    ) -> Answer:
        document = self._documents.setdefault(request.document, _Document())
        document.ahead = None
        if document.pending is not None:
            document.pending.settle("superseded")
            document.pending = None
        if request.trigger == "automatic":
            self._rhythm.keystroke(started_s)
        closed = (
            closed_gate(request, self._options)
            or _undo_gate(document, request)
            or self._engine_gate()
        )
        document.prefix = request.prefix
        if closed is not None:
            self._stop_unwanted()
            self._show_gate(closed)
            return Answer(reason=closed.reason)
        if self.status.state in ("off", "inactive"):
            self._set_status(replace(self.status, state="ready", message=""))
        pending = document.pending = self._open(document, request, on_growth)
        self._stop_unwanted()
        try:
            return await self._wait_for(pending, started_s)
        except asyncio.CancelledError:
            if document.pending is pending:
                self._stop(pending.generations)
            raise
        finally:
            if pending.preparing is not None:
                pending.preparing.cancel()
            if document.pending is pending:
                document.pending = None

    def _open(
        self, document: _Document, request: CompletionRequest, on_growth: OnGrowth | None
    ) -> Pending:
        """Find or make the offers that answer a request."""
        selected = request.selected_text
        effective = replace(request, prefix=request.prefix + selected, selected_text="")
        accepted = document.accepted
        follows_accept = (
            accepted is not None and effective.prefix == accepted.prefix + accepted.text
        )
        n_candidates = self._options.candidates if request.trigger == "invoked" else 1
        offers = [
            self._offer(document, effective, candidate, follows_accept=follows_accept)
            for candidate in range(n_candidates)
        ]
        for offer, _ in offers:
            self._offers[offer.id] = offer
        while len(self._offers) > _KEPT_OFFERS:
            self._offers.popitem(last=False)
        return Pending(
            request=effective,
            selected_text=selected,
            offers=offers,
            on_growth=on_growth,
            settled=asyncio.get_running_loop().create_future(),
        )

    def _offer(
        self,
        document: _Document,
        request: CompletionRequest,
        candidate: int,
        *,
        follows_accept: bool,
    ) -> tuple[Offer, int]:
        """Return an offer for a place, and how much of it was typed: known, or new and empty."""
        settings = offer_settings(
            request,
            self._options,
            self._context(request),
            candidate,
            follows_accept=follows_accept,
        )
        found = document.memory.find_offer(request, settings)
        if found is not None:
            return found
        offer = document.memory.reindented_offer(request, settings)
        if offer is None:
            offer = document.memory.make_offer(request, settings, self._filters)
            offer.update()
        return offer, 0

    async def _wait_for(self, pending: Pending, started_s: float) -> Answer:
        source: Source = "cache"
        if not pending.is_complete:
            is_in_flight = pending.generations[0].run is not None
            source = "in_flight" if is_in_flight else "model"
        self._follow(pending)
        pending.refresh()
        if not pending.settled.done():
            if source == "model" and pending.request.trigger == "automatic":
                await self._debounce(pending)
            self._go_on(pending)
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
            usage=EngineUsage() if source == "cache" else pending.usage(),
        )

    async def _debounce(self, pending: Pending) -> None:
        """Prefill at once, and wait for the next keystroke before decoding."""
        options = self._options
        wait_s = debounce_s(
            self._rhythm,
            self._service,
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

    def _follow(self, pending: Pending) -> None:
        """Let the generations that run already go on until this request has enough."""
        for offer, _ in pending.offers:
            if offer.generation.run is not None:
                offer.generation.run.is_enough = offer.is_enough

    def _go_on(self, pending: Pending) -> None:
        """Start the generations that stand still although the request needs more of them."""
        if self._room is None or pending.settled.done():
            return
        for offer, _ in pending.offers:
            generation = offer.generation
            if generation.run is None and not offer.is_complete and not generation.error:
                self._room.start(generation, offer.is_enough, self._clock.now())
                self._running.add(generation)
        self._show_activity()

    def _on_growth(self, generation: Generation) -> None:
        """Pass on what an engine's run brought: text, its end, or an error."""
        if generation.run is None:
            self._running.discard(generation)
            usage = generation.usage
            self._service.note((usage.prefill_ms + usage.decode_ms) / 1000)
            if generation.error:
                self._set_status(replace(self.status, state="error", message=generation.error))
        document = self._documents.get(generation.request.document)
        pending = document.pending if document is not None else None
        if pending is not None and generation in pending.generations:
            pending.refresh()
            if generation.run is None:
                self._go_on(pending)  # It stopped for an older request, which needed less.
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
        self._stop([generation for generation in self._running if generation not in wanted])

    def _stop(self, generations: list[Generation]) -> None:
        for generation in generations:
            generation.stop()
            self._running.discard(generation)
        self._show_activity()

    def warm(self, request: CompletionRequest) -> None:
        """Prefill in the background what a request at this place would need."""
        is_closed = document_gate(request, self._options) or self._engine_gate()
        document = self._documents.get(request.document)
        is_busy = document is not None and document.pending is not None
        if self._room is None or is_closed or is_busy or not request.prefix.strip():
            return
        settings = offer_settings(request, self._options, self._context(request), 0)
        self._room.warm(engine_request(request, settings.generation), is_background=True)

    def document_closed(self, document: str) -> None:
        """Forget a document."""
        known = self._documents.pop(document, None)
        if known is not None:
            if known.pending is not None:
                known.pending.settle("forgotten")
            self._stop([g for g in self._running if g.request.document == document])
        if self._room is not None:
            self._room.forget(document)

    # Settings and plugins.

    def set_options(self, options: Options) -> None:
        """Use other settings from the next request on."""
        has_other_plugins = (options.filters, options.context_sources) != (
            self._options.filters,
            self._options.context_sources,
        )
        self._options = options
        if has_other_plugins:
            self._load_chains()
        if self.status.state in ("ready", "off", "inactive"):
            self._set_status(
                replace(self.status, state="ready" if options.enabled else "off", message="")
            )

    def _load_chains(self) -> None:
        self._filters = FilterChain(
            self._load_all("filters", self._options.filters),
            lambda name, how: self._plugins.block("filters", name, how),
        )
        self._context = ContextChain(
            self._load_all("context", self._options.context_sources),
            lambda name, how: self._plugins.block("context", name, how),
        )

    def _load_all(self, group: Group, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """Load the plugins of a group that can be loaded; the others are named in the log."""
        loaded = []
        for name in names:
            try:
                plugin = self._plugins.load(group, name)
            except PluginError as exc:
                logger.warning("%s", exc)
                continue
            if callable(plugin):
                loaded.append((name, plugin))
            else:
                self._plugins.block(group, name, "it cannot be called")
        return loaded

    # What the editor tells.

    def shown(self, completion_id: str) -> None:
        """Count a completion that the editor showed; what comes after it is generated ahead."""
        self.counters.shown += 1
        self._look_ahead(completion_id)

    def accepted(self, completion_id: str) -> None:
        """Count a completion that was accepted as a whole; what comes after it is due."""
        self.counters.accepted += 1
        offer = self._offers.get(completion_id)
        document = self._documents.get(offer.request.document) if offer is not None else None
        if document is not None:
            document.accepted = offer
            document.undone = document.prefix
        self._look_ahead(completion_id)

    def partially_accepted(self, completion_id: str, n_chars: int) -> None:
        """Count a completion of which the first `n_chars` code points were accepted."""
        self.counters.partially_accepted += 1
        offer = self._offers.get(completion_id)
        if offer is not None and offer.request.document in self._documents:
            document = self._documents[offer.request.document]
            document.undone = document.prefix

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
        document.ahead, _ = self._offer(document, after, 0, follows_accept=True)
        self._go_ahead(document)

    def _go_ahead(self, document: _Document) -> None:
        """Let the engine go on with what is generated ahead, as long as nobody asks."""
        ahead = document.ahead
        if self._room is None or ahead is None or document.pending is not None:
            return
        ahead.update()
        generation = ahead.generation
        if ahead.is_complete or generation.error:
            document.ahead = None
        elif generation.run is not None:
            generation.run.is_enough = ahead.is_enough
        else:
            now_s = self._clock.now()
            self._room.start(generation, ahead.is_enough, now_s, is_background=True)
            self._running.add(generation)

    # What the user sees of it.

    def _engine_gate(self) -> Closed | None:
        if self._loaded is not None and self._loaded.done():
            error = self._loaded.result()
            return Closed(scope="engine", reason=error) if error else None
        return Closed(scope="engine", reason="the model is being loaded")

    def _show_gate(self, closed: Closed) -> None:
        if closed.scope == "off":
            self._set_status(replace(self.status, state="off", message=closed.reason))
        elif closed.scope == "document":
            self._set_status(replace(self.status, state="inactive", message=closed.reason))

    def _show_activity(self) -> None:
        """Say busy or ready, with the engine that really runs now."""
        info = self._room.info if self._room is not None else self.status.engine
        is_awaited = any(document.pending is not None for document in self._documents.values())
        if self._running and is_awaited:
            self._set_status(Status(state="busy", engine=info))
        elif self.status.state == "busy":
            self._set_status(Status(state="ready", engine=info))

    def _set_status(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._on_status(status)


def _undo_gate(document: _Document, request: CompletionRequest) -> Closed | None:
    """Return a closed gate right after an accept was undone: who undoes it does not want it."""
    if request.trigger == "invoked" or document.undone != request.prefix:
        if document.undone is not None and not request.prefix.startswith(document.undone):
            document.undone = None
        return None
    document.undone = None
    return Closed(scope="place", reason="an accepted completion was undone")
