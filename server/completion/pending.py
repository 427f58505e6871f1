"""A request that waits for its answer, and what it has been given so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from server.completion.engine import CancelToken, EngineUsage
from server.completion.generation import Generation, Offer
from server.completion.request import Candidate, CompletionRequest

OnGrowth = Callable[[tuple[Candidate, ...]], None]
Settled = Literal["complete", "superseded", "forgotten", "closed"]
"""How the wait ended: all is there, a newer request came, the document or the server was closed."""


@dataclass(slots=True, eq=False, kw_only=True)
class Pending:
    """One open request. Lives on the event loop."""

    request: CompletionRequest
    """With the selected text of an open completion menu at the end of the prefix."""
    selected_text: str
    offers: list[tuple[Offer, int]]
    """One per candidate, with how much of it was typed already."""
    on_growth: OnGrowth | None
    settled: asyncio.Future[Settled]
    warming: CancelToken | None = None
    _given: tuple[Candidate, ...] = field(default=())

    @property
    def is_complete(self) -> bool:
        """Whether every candidate is finished or failed."""
        return all(offer.is_complete or offer.generation.error for offer, _ in self.offers)

    @property
    def generations(self) -> list[Generation]:
        """The generations that it waits for."""
        return [offer.generation for offer, _ in self.offers]

    def settle(self, how: Settled) -> None:
        """End the wait; the first one to say so wins."""
        if not self.settled.done():
            self.settled.set_result(how)

    def refresh(self) -> None:
        """Take over what was generated since, tell the client of growth, end the wait if it is."""
        if self.settled.done():
            return
        for offer, _ in self.offers:
            offer.update()
        if self.on_growth is not None:
            candidates = self._grown()
            if candidates and candidates != self._given:
                self._given = candidates
                self.on_growth(candidates)
        if self.is_complete:
            self.settle("complete")

    def candidates(self) -> tuple[Candidate, ...]:
        """Give out what is finished now: for good."""
        return self._distinct(
            offer.give_by_deadline(self.request, n_typed) for offer, n_typed in self.offers
        )

    def reason(self) -> str:
        """Why there is nothing to give out."""
        for offer, _ in self.offers:
            if offer.generation.error or offer.reason:
                return offer.generation.error or offer.reason
        return "nothing was finished in time"

    def usage(self) -> EngineUsage:
        """Return the counts and times of all candidates together."""
        total = EngineUsage()
        for generation in dict.fromkeys(self.generations):
            for name in _COUNTED:
                sum_ = getattr(total, name) + getattr(generation.usage, name)
                setattr(total, name, sum_)
        total.finish_reason = self.generations[0].usage.finish_reason
        return total

    def _grown(self) -> tuple[Candidate, ...]:
        """Give out what may be shown while the rest is still being generated.

        A candidate comes after those in front of it are finished, so that none changes its place.
        """
        grown = []
        for offer, n_typed in self.offers:
            grown.append(offer.give(self.request, n_typed))
            if not offer.is_complete:
                break
        return self._distinct(grown)

    def _distinct(self, candidates: Iterable[Candidate | None]) -> tuple[Candidate, ...]:
        """Drop the empty ones and those that say the same as an earlier one."""
        distinct: dict[str, Candidate] = {}
        for candidate in candidates:
            if candidate is not None:
                said = " ".join(candidate.text.split())
                whole = replace(candidate, text=self.selected_text + candidate.text)
                distinct.setdefault(said, whole)
        return tuple(distinct.values())


_COUNTED = tuple(f.name for f in fields(EngineUsage) if f.name != "finish_reason")
