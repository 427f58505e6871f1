"""A request that waits for its answer, and what it has been given so far."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from server.completion.engine import CancelToken, EngineRequest, EngineUsage, FinishReason
from server.completion.generation import Generation, Offer
from server.completion.languages import line_below
from server.completion.request import Candidate, CompletionRequest
from server.completion.trimming import replaced_chars

logger = logging.getLogger(__name__)

_FAR_BEHIND = 0.2
"""Share of the best candidate's confidence that a further one must have (guessed: the embedded
model's samples below it were noise)."""
_RATED_CHARS = 200
"""So much of what stands after a candidate is rated (guessed: a line, less than one pass)."""
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
    ran: set[Generation] = field(default_factory=set)
    """The generations on which the engine worked for this request."""
    preparing: CancelToken | None = None
    """Stops the warming before the candidates, or the rating after them."""
    is_superseded: bool = False
    """A newer request of the document came, be it after all was there."""
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

    def supersede(self) -> None:
        """Make way for a newer request, whose answer may be on its way first."""
        self.is_superseded = True
        self.settle("superseded")

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
                self._tell(candidates)
        if self.is_complete:
            self.settle("complete")

    def reopen(self, settled: asyncio.Future[Settled]) -> None:
        """Wait again, for something else than text."""
        self.settled = settled

    @property
    def may_rank(self) -> bool:
        """Whether the order of the candidates is free: several, and none was shown yet."""
        return self.on_growth is None and len([o for o, _ in self.offers if o.text]) > 1

    def continuations(self) -> list[tuple[EngineRequest, str]]:
        """Return, for each candidate, what stands after it in the document: the rest of the line
        and the next line that is not blank.
        """
        asked = []
        for offer, _ in self.offers:
            rest = self.request.suffix[replaced_chars(offer.text, self.request) :]
            next_line = line_below(rest)
            end = rest.find(next_line) + len(next_line) if next_line else 0
            prefix = offer.prefix + offer.text
            request = replace(offer.generation.request, prefix=prefix, suffix="")
            asked.append((request, rest[: min(end, _RATED_CHARS)].rstrip()))
        return asked

    def rank(self, ratings: Sequence[float | None]) -> None:
        """Put first what is likely itself and makes likely what stands after it."""
        if len(ratings) != len(self.offers) or any(rating is None for rating in ratings):
            return
        scores = {
            id(offer): math.log(max(offer.confidence, 1e-9)) + (rating or 0.0)
            for (offer, _), rating in zip(self.offers, ratings, strict=True)
        }
        self.offers.sort(key=lambda row: -scores[id(row[0])])

    def candidates(self) -> tuple[Candidate, ...]:
        """Give out what is finished now, for good.

        A further candidate is given out whole or not at all, and only if it is not far less likely
        than the best.
        """
        best = max(offer.confidence for offer, _ in self.offers)
        return self._distinct(
            offer.give_by_deadline(self.request, n_typed)
            for place, (offer, n_typed) in enumerate(self.offers)
            if place == 0 or self._is_worth_it(offer, best)
        )

    def _is_worth_it(self, offer: Offer, best: float) -> bool:
        """Whether a further candidate is shown; what was shown once is never taken back."""
        is_near = offer.confidence >= _FAR_BEHIND * best
        return offer.is_complete and (is_near or any(one.id == offer.id for one in self._given))

    def reason(self) -> str:
        """Why there is nothing to give out."""
        for offer, _ in self.offers:
            if offer.generation.error or offer.reason:
                return offer.generation.error or offer.reason
        return "nothing was finished in time"

    def usage(self) -> EngineUsage:
        """Return the counts and times of all that ran, together."""
        total = EngineUsage()
        for generation in self.ran:
            for name in _COUNTED:
                sum_ = getattr(total, name) + getattr(generation.usage, name)
                setattr(total, name, sum_)
        total.finish_reason = self._finish_reason()
        return total

    def _finish_reason(self) -> FinishReason:
        """Why the text ended: the engine's own reasons know nothing of stop rules and deadlines."""
        if not self.is_complete:
            return "deadline"
        return "length" if self.generations[0].is_cut else "stop"

    def _tell(self, candidates: tuple[Candidate, ...]) -> None:
        if self.on_growth is None:
            return
        try:
            self.on_growth(candidates)
        except Exception:  # who listens is gone; the answer is still due
            logger.warning("growing text cannot be told", exc_info=True)
            self.on_growth = None

    def _grown(self) -> tuple[Candidate, ...]:
        """Give out what may be shown while the rest is still being generated.

        A candidate comes after those in front of it are finished, so that none changes its place.
        """
        grown = []
        for offer, n_typed in self.offers:
            if offer is self.offers[0][0] or self._is_worth_it(offer, self.offers[0][0].confidence):
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
