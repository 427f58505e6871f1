"""What the completer keeps of one open document: its request, its offers, its context.

Starts nothing and reads no clock; the completer decides when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from server.completion.filters import FilterChain
from server.completion.gates import Closed
from server.completion.generated import Generated
from server.completion.generation import Offer
from server.completion.offer_settings import offer_settings
from server.completion.pending import Pending
from server.completion.request import CompletionRequest, OpenDocument
from server.options import Options

_CONTEXT_LINES = 48
"""The cursor may go so far from where the context was gathered (guessed: about a screen)."""

GatherContext = Callable[[CompletionRequest], str]


@dataclass(slots=True, eq=False)
class Document:
    """One document that was completed or warmed, until it is closed."""

    generated: Generated = field(default_factory=Generated)
    pending: Pending | None = None
    """The request that waits for its answer; there is at most one."""
    request: CompletionRequest | None = None
    """The last one."""
    ahead: Offer | None = None
    """What is generated in idle time."""
    context: str = ""
    """What stands in front of the prompt."""
    _context_line: int | None = None
    _accepted: Offer | None = None
    """The offer that was accepted last: at its end the next line is due."""
    _undone: str | None = None
    """Text before the cursor before something was accepted: to come back to it is an undo."""

    def supersede(self) -> None:
        """Make way for a newer request."""
        self.ahead = None
        if self.pending is not None:
            self.pending.supersede()
            self.end(self.pending)

    def end(self, pending: Pending) -> None:
        """Let a request wait no more, unless another does already."""
        if self.pending is pending:
            self.generated.note_given(offer for offer, _ in pending.offers)
            self.pending = None

    def note_accept(self, offer: Offer, *, is_whole: bool) -> None:
        """Remember that an offer, or its beginning, was accepted."""
        if is_whole:
            self._accepted = offer
        self._undone = self.request.prefix if self.request is not None else None

    def undo_gate(self, request: CompletionRequest) -> Closed | None:
        """Return a closed gate right after an accept was undone: who undoes it does not want it."""
        undone = self._undone
        if request.trigger == "invoked" or undone is None:
            return None
        if undone != request.prefix:
            if not request.prefix.startswith(undone):
                self._undone = None
            return None
        self._undone = None
        return Closed(scope="place", reason="an accepted completion was undone")

    def offer(
        self,
        request: CompletionRequest,
        candidate: int,
        *,
        options: Options,
        filters: FilterChain,
        gather: GatherContext,
        follows_accept: bool | None = None,
    ) -> tuple[Offer, int]:
        """Return an offer for a place, and how much of it was typed: known, or new and empty.

        Args:
            request: the place.
            candidate: its index.
            options: what shapes it.
            filters: what shortens it.
            gather: gives the context anew, where it is due.
            follows_accept: whether the next line is due; left out, the last accept decides.
        """
        if follows_accept is None:
            done = self._accepted
            follows_accept = done is not None and request.prefix == done.prefix + done.text
        settings = offer_settings(
            request, options, self.context, candidate, follows_accept=follows_accept
        )
        if request.trigger == "automatic":
            known = self.generated.shown_offer(request, settings)
            if known is not None:
                return known
        known = self.generated.find_offer(request, settings)
        if known is not None:
            return known
        offer = self.generated.reindented_offer(request, settings)
        if offer is None:
            self.refresh_context(request, gather)
            generation = replace(settings.generation, context=self.context)
            settings = replace(settings, generation=generation)
            offer = self.generated.make_offer(request, settings, filters)
            offer.update()
        return offer, 0

    def refresh_context(self, request: CompletionRequest, gather: GatherContext) -> None:
        """Gather the context anew where the cursor has gone far: it changes the whole prompt."""
        line = request.prefix.count("\n")
        old = self._context_line
        if old is None or abs(line - old) > _CONTEXT_LINES:
            self.context, self._context_line = gather(request), line

    def forget_context(self) -> None:
        """Gather the context anew at the next request."""
        self.context, self._context_line = "", None

    def forget_generated(self) -> None:
        """Generate anew from the next request on; an answer in the making goes on."""
        self.generated, self.ahead = Generated(), None

    def as_open(self) -> OpenDocument | None:
        """Return the document as context of others, as it was when it was last asked for."""
        last = self.request
        if last is None:
            return None
        text = last.prefix + last.suffix
        return OpenDocument(path=last.path, language=last.language, text=text)
