"""What is remembered of one document: what was generated, and what of it was offered.

Decides whether a request is answered from what is there. Starts nothing and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

from server.completion.cache import PrefixTrie
from server.completion.engine import EngineRequest, MemoryScope
from server.completion.filters import FilterChain
from server.completion.generation import Generation, Offer
from server.completion.languages import indentation, last_line
from server.completion.request import CompletionRequest
from server.completion.stopping import stop_rules
from server.options import Options, SamplingOptions

_LONE_SURROGATES = {code: "\ufffd" for code in range(0xD800, 0xE000)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """All but the text that shapes what the engine says."""

    language: str
    path: str
    context: str
    sampling: SamplingOptions
    max_new_tokens: int
    fill_in_middle: str
    memory: MemoryScope
    drafts: bool
    candidate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSettings:
    """All but the generated text that shapes what is shown of it."""

    generation: GenerationSettings
    filters: tuple[str, ...]
    multi_line: str
    max_lines: int
    min_confidence: float
    follows_accept: bool = False


def offer_settings(
    request: CompletionRequest,
    options: Options,
    context: str,
    candidate: int,
    *,
    follows_accept: bool = False,
) -> OfferSettings:
    """Return what shapes the offer of one candidate to a request."""
    generation = GenerationSettings(
        language=request.language,
        path=request.path,
        context=context,
        sampling=options.sampling,
        max_new_tokens=options.max_new_tokens,
        fill_in_middle=options.fill_in_middle,
        memory=cast(MemoryScope, options.memory),
        drafts=options.drafts,
        candidate=candidate,
    )
    return OfferSettings(
        generation=generation,
        filters=options.filters,
        multi_line=options.multi_line_languages.get(request.language, options.multi_line),
        max_lines=options.max_lines,
        # Who asks gets the best there is, sure or not.
        min_confidence=options.min_confidence if request.trigger == "automatic" else 0.0,
        follows_accept=follows_accept,
    )


@dataclass(slots=True)
class DocumentMemory:
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


def engine_request(
    request: CompletionRequest, settings: GenerationSettings, *, single_line: bool = False
) -> EngineRequest:
    """Return what the engine is asked; half characters are replaced, so lengths stay.

    Which trigger asked shapes the answer too, but is no setting: what was generated for who asked
    on purpose is typed along as any other.
    """
    return EngineRequest(
        document=request.document,
        prefix=_whole_characters(request.prefix),
        suffix="" if settings.fill_in_middle == "never" else _whole_characters(request.suffix),
        language=request.language,
        path=request.path,
        context=settings.context,
        max_new_tokens=settings.max_new_tokens,
        sampling=settings.sampling,
        candidate=settings.candidate,
        memory=settings.memory,
        drafts=settings.drafts,
        single_line=single_line,
        is_explicit=request.trigger == "invoked",
    )


def _whole_characters(text: str) -> str:
    return text if text.isascii() else text.translate(_LONE_SURROGATES)
