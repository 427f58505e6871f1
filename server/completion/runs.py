"""What the engine works on now: the generations that a request waits for, and what is due ahead.

Decides what starts, goes on and stops; what it brings is taken from the generations themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from server.completion.engine import CancelToken, EngineRequest
from server.completion.engine_room import EngineRoom
from server.completion.generation import Generation, Offer
from server.completion.pending import Pending
from server.completion.scheduler import Clock, ServiceTime


class Runs:
    """The generations that run."""

    def __init__(self, room: EngineRoom, clock: Clock) -> None:
        self.service = ServiceTime()
        """How long one takes."""
        self._room = room
        self._clock = clock
        self._running: set[Generation] = set()
        self._warming: CancelToken | None = None
        """Stops the prefilling ahead that was asked for last."""

    def __len__(self) -> int:
        return len(self._running)

    def follow(self, pending: Pending) -> None:
        """Let the generations that run already go on until this request has enough."""
        for offer, _ in pending.offers:
            if offer.generation.run is not None:
                offer.generation.run.is_enough = offer.is_enough
                pending.ran.add(offer.generation)

    def go_on(self, pending: Pending) -> None:
        """Start the generations that stand still although the request needs more of them."""
        if not pending.settled.done():
            for offer, _ in pending.offers:
                if offer.generation.run is None and self._start(offer, is_background=False):
                    pending.ran.add(offer.generation)

    def go_ahead(self, offer: Offer) -> bool:
        """Let the engine go on with an offer that nobody waits for; False: it has enough."""
        offer.update()
        if offer.is_complete or offer.generation.error:
            return False
        if offer.generation.run is not None:
            offer.generation.run.is_enough = offer.is_enough
        else:
            self._start(offer, is_background=True)
        return True

    def warm_ahead(self, request: EngineRequest, on_done: Callable[[int], None]) -> None:
        """Prefill in idle time for requests that come later; the last such wish counts.

        Args:
            request: the last one.
            on_done: is told how many tokens were prefilled.
        """
        if self._warming is not None:
            self._warming.cancel()
        self._warming = self._room.warm_ahead(request, on_done)

    def leave(self, pending: Pending) -> None:
        """Stop the generations that are complete for the request although they might go on: what
        they say would be cut anyway.
        """
        for offer, _ in pending.offers:
            generation = offer.generation
            if generation.run and offer.is_complete and not offer.is_enough(generation.deltas):
                self.stop([generation])

    def ended(self, generation: Generation) -> None:
        """Note that a generation does not run any more."""
        self._running.discard(generation)
        usage = generation.usage
        self.service.note((usage.prefill_ms + usage.decode_ms) / 1000)

    def stop(self, generations: Iterable[Generation]) -> None:
        """Stop some generations; what they said stays."""
        for generation in generations:
            generation.stop()
            self._running.discard(generation)

    def stop_others(self, wanted: Collection[Generation]) -> None:
        """Stop all generations but some."""
        self.stop([generation for generation in self._running if generation not in wanted])

    def of(self, document: str) -> list[Generation]:
        """Return the generations of a document that run."""
        return [one for one in self._running if one.request.document == document]

    def _start(self, offer: Offer, *, is_background: bool) -> bool:
        """Start a generation, if the offer needs more of it; return whether it does."""
        generation = offer.generation
        if offer.is_complete or generation.error:
            return False
        self._room.start(
            generation, offer.is_enough, self._clock.now(), is_background=is_background
        )
        self._running.add(generation)
        return True
