"""What was generated and offered in one document, found again by the text before the cursor.

Decides whether a request is answered from what is there. Starts nothing and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from server.completion.cache import PrefixTrie
from server.completion.filters import FilterChain
from server.completion.generation import Generation, Offer
from server.completion.languages import indentation, last_line
from server.completion.offer_settings import OfferSettings, engine_request
from server.completion.request import CompletionRequest
from server.completion.stopping import stop_rules


@dataclass(slots=True)
class Generated:
    """Generations and offers of one document, by the text before the cursor."""

    generations: PrefixTrie[Generation] = field(default_factory=PrefixTrie)
    offers: PrefixTrie[Offer] = field(default_factory=PrefixTrie)

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
            if is_same_line and offer.is_complete and offer.text and "\t" not in offer.text:
                text = shifted(offer.text, indentation(line) - indentation(indent))
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


def shifted(text: str, n_columns: int) -> str:
    """Return a text whose lines below the first stand `n_columns` further right; never below 0.

    A line that would have to start left of the margin ends the text.
    """
    first, *below = text.split("\n")
    lines = [first]
    for line in below:
        if n_columns >= 0:
            lines.append(" " * n_columns + line if line else line)
        elif line[:-n_columns].strip():
            break
        else:
            lines.append(line[-n_columns:])
    return "\n".join(lines)
