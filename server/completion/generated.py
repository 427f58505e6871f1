"""What was generated and offered in one document, found again by the text before the cursor.

Decides whether a request is answered from what is there. Starts nothing and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from server.completion.cache import PrefixTrie, same_suffix
from server.completion.filters import FilterChain
from server.completion.generation import Generation, Offer
from server.completion.languages import last_line
from server.completion.offer_settings import OfferSettings, engine_request
from server.completion.request import CompletionRequest
from server.completion.stopping import stop_rules


@dataclass(slots=True)
class Generated:
    """Generations and offers of one document, by the text before the cursor."""

    generations: PrefixTrie[Generation] = field(default_factory=PrefixTrie)
    offers: PrefixTrie[Offer] = field(default_factory=PrefixTrie)
    shown: list[Offer] = field(default_factory=list)
    """What was given out last, best first: the editor shows one of them."""

    def note_given(self, offers: Iterable[Offer]) -> None:
        """Remember what a request was given; the editor keeps it if it was nothing."""
        self.shown = [offer for offer in offers if offer.is_given] or self.shown

    def shown_offer(
        self, request: CompletionRequest, settings: OfferSettings
    ) -> tuple[Offer, int] | None:
        """Return the offer that the editor shows, where it is typed along, and how much of it was.

        It stays, though it was asked for on purpose and is less sure than what typing gets, and
        though it was not the first candidate.
        """
        for place, offer in enumerate(self.shown):
            offer.update()
            typed = request.prefix[len(offer.prefix) :]
            is_along = (
                request.prefix.startswith(offer.prefix)
                and offer.text.startswith(typed)
                and same_suffix(offer.suffix, request.suffix, typed)
                and settings.may_keep(offer.settings)
            )
            if is_along and offer.text[len(typed) :].strip() and (typed or place == 0):
                return offer, len(typed)
        return None

    def find_offer(
        self, request: CompletionRequest, settings: OfferSettings
    ) -> tuple[Offer, int] | None:
        """Return an offer that goes on at the request's place, and how much of it was typed."""
        for offer, n_typed in self.offers.find(request.prefix, request.suffix, settings):
            if offer.generation.error:
                continue
            offer.update()
            goes_on = bool(offer.text[n_typed:].strip()) or not offer.is_complete
            if goes_on or (n_typed == 0 and not offer.text):
                return offer, n_typed
        return None

    def reindented_offer(self, request: CompletionRequest, settings: OfferSettings) -> Offer | None:
        """Return an offer that was made for the same empty line when it was indented otherwise."""
        line = last_line(request.prefix)
        if line.strip():
            return None
        above = request.prefix[: len(request.prefix) - len(line)]
        for offer in reversed(list(self.offers)):
            indent = offer.prefix[len(above) :]
            is_same_line = (
                not indent.strip(" \t")
                and offer.prefix.startswith(above)
                and offer.suffix == request.suffix
                and offer.settings == settings
            )
            if is_same_line and offer.is_complete and offer.text:
                text = reindented(offer.text, indent, line)
                if text is not None:
                    return self._offer_of(text, offer, request)
        return None

    def _offer_of(self, text: str, offer: Offer, request: CompletionRequest) -> Offer:
        """Return an offer of a text that is known, under the id of the one it was made from."""
        made = replace(offer, request=request, text=text)
        self.offers.add(made)
        return made

    def make_offer(
        self, request: CompletionRequest, settings: OfferSettings, filters: FilterChain
    ) -> Offer:
        """Return a new offer, from what was generated already where that goes on at this place."""
        rules = stop_rules(
            request,
            settings.multi_line,
            settings.max_lines,
            follows_accept=settings.follows_accept,
        )
        generation, start = self._find_generation(request, settings) or (None, 0)
        if generation is None:
            may_go_on = rules.may_open_block or rules.may_start_below
            is_single_line = rules.mode == "line" and not may_go_on
            generation = Generation(
                place=request,
                request=engine_request(request, settings.generation, single_line=is_single_line),
                settings=settings.generation,
            )
            self.generations.add(generation)
        offer = Offer(
            request=request,
            settings=settings,
            generation=generation,
            rules=rules,
            filters=filters,
            start=start,
            min_confidence=settings.min_confidence,
        )
        self.offers.add(offer)
        return offer

    def _find_generation(
        self, request: CompletionRequest, settings: OfferSettings
    ) -> tuple[Generation, int] | None:
        found = self.generations.find(request.prefix, request.suffix, settings.generation)
        for generation, n_typed in found:
            has_more = n_typed < len(generation.text) or generation.run is not None
            if has_more and not generation.error:
                return generation, n_typed
        return None


def reindented(text: str, old: str, new: str) -> str | None:
    """Return a text for a line that was indented by `old`, now that it is indented by `new`.

    The lines below the first move as far as the first; one that would have to start left of the
    margin ends the text. None: tabs and spaces are mixed.
    """
    unit = "\t" if "\t" in old + new else " "
    first, *below = text.split("\n")
    indents = [line[: len(line) - len(line.lstrip(" \t"))] for line in below]
    if any(indent.strip(unit) for indent in (old, new, *indents)):
        return None
    n_right, n_left = len(new) - len(old), len(old) - len(new)
    lines = [first]
    for line in below:
        if n_right >= 0:
            lines.append(unit * n_right + line if line else line)
        elif line[:n_left].strip():
            break
        else:
            lines.append(line[n_left:])
    return "\n".join(lines)
