"""What shapes a text: what the engine is asked with, and what is shown of what it says.

Pure. Texts of other settings never answer a request, see `generated`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from server.completion.engine import EngineRequest, MemoryScope
from server.completion.request import CompletionRequest
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
    other_licences: bool
    candidate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSettings:
    """All but the generated text that shapes what is shown of it."""

    generation: GenerationSettings
    filters: tuple[str, ...]
    multi_line: str
    max_lines: int
    min_confidence: float
    is_explicit: bool = False
    follows_accept: bool = False

    def may_keep(self, shown: OfferSettings) -> bool:
        """Whether what was shown by some settings may stay for who types along by these.

        Who asked, and which of several candidates it is, may differ.
        """
        generation = replace(shown.generation, candidate=0)
        kept = replace(shown, generation=generation, follows_accept=self.follows_accept)
        if shown.is_explicit:
            kept = replace(kept, min_confidence=self.min_confidence, is_explicit=self.is_explicit)
        return kept == self


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
        other_licences=options.other_licences,
        candidate=candidate,
    )
    return OfferSettings(
        generation=generation,
        filters=options.filters,
        multi_line=options.multi_line_languages.get(request.language, options.multi_line),
        max_lines=options.max_lines,
        # Who asks gets the best there is, sure or not.
        min_confidence=options.min_confidence if request.trigger == "automatic" else 0.0,
        is_explicit=request.trigger == "invoked",
        follows_accept=follows_accept,
    )


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
        other_licences=settings.other_licences,
        single_line=single_line,
        is_explicit=request.trigger == "invoked",
    )


def _whole_characters(text: str) -> str:
    return text if text.isascii() else text.translate(_LONE_SURROGATES)
