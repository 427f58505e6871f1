"""A request that waits: what it gives out while several candidates come, and their order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from server.completion.engine import EngineUsage, TextDelta
from server.completion.filters import FilterChain
from server.completion.generation import Generation, Offer
from server.completion.offer_settings import engine_request, offer_settings
from server.completion.pending import Pending
from server.completion.request import Candidate, CompletionRequest
from server.completion.stopping import stop_rules
from server.options import Options

PLACE = CompletionRequest(
    document="file:///a",
    version=1,
    prefix="a = b\n",
    suffix="\n\nclose(b)\n",
    language="python",
    trigger="invoked",
)


def offer(
    text: str = "",
    *,
    is_ended: bool = False,
    place: CompletionRequest = PLACE,
    logprob: float = -0.1,
) -> Offer:
    settings = offer_settings(place, Options(), "", 0)
    generation = Generation(
        place=place,
        request=engine_request(place, settings.generation),
        settings=settings.generation,
        is_ended=is_ended,
    )
    if text:
        generation.add(TextDelta(text=text, logprob=logprob))
    return Offer(
        request=place,
        settings=settings,
        generation=generation,
        rules=stop_rules(place, "never", 1),
        filters=FilterChain([], print),
    )


def pending(*offers: Offer, grown: list[tuple[Candidate, ...]] | None = None) -> Pending:
    return Pending(
        request=PLACE,
        selected_text="",
        offers=[(one, 0) for one in offers],
        on_growth=None if grown is None else grown.append,
        settled=asyncio.get_running_loop().create_future(),
    )


def texts(candidates: tuple[Candidate, ...]) -> list[str]:
    return [candidate.text for candidate in candidates]


async def test_a_candidate_is_shown_after_those_in_front_of_it_are_finished() -> None:
    grown: list[tuple[Candidate, ...]] = []
    first, second = offer(), offer("two", is_ended=True)
    waiting = pending(first, second, grown=grown)
    waiting.refresh()
    assert grown == []
    first.generation.add(TextDelta(text="one + x", logprob=-0.1))
    waiting.refresh()
    first.generation.is_ended = True
    waiting.refresh()
    assert [texts(step) for step in grown] == [["one + x"], ["one + x", "two"]]
    assert waiting.settled.result() == "complete"


async def test_candidates_that_differ_in_white_space_only_are_one() -> None:
    waiting = pending(offer("f(a, b)", is_ended=True), offer("f(a,  b)", is_ended=True))
    waiting.refresh()
    assert texts(waiting.candidates()) == ["f(a, b)"]


async def test_what_stands_after_each_candidate_is_the_next_line() -> None:
    bracket = replace(PLACE, prefix="f(", suffix=") + g\nclose(b)\n")
    waiting = pending(offer("one", is_ended=True))
    waiting.refresh()
    ((request, text),) = waiting.continuations()
    assert (request.prefix, request.suffix, text) == ("a = b\none", "", "\n\nclose(b)")
    other = offer("x) + y", is_ended=True, place=bracket)
    waiting = pending(other)
    waiting.request = bracket
    waiting.refresh()
    ((request, text),) = waiting.continuations()
    assert (request.prefix, text) == ("f(x) + y", " + g\nclose(b)")


async def test_ratings_that_are_missing_leave_the_order() -> None:
    waiting = pending(offer("one", is_ended=True), offer("two", is_ended=True))
    waiting.refresh()
    waiting.rank([])
    waiting.rank([-5.0, None])
    assert texts(waiting.candidates()) == ["one", "two"]
    waiting.rank([-5.0, -1.0])
    assert texts(waiting.candidates()) == ["two", "one"]


@pytest.mark.parametrize(
    ("ratings", "order"),
    [
        ([-2.0, -2.0], ["likely", "less"]),
        ([-2.0, -1.9], ["likely", "less"]),
        ([-2.0, -0.5], ["less", "likely"]),
        ([-0.5, -2.0], ["likely", "less"]),
    ],
)
async def test_candidates_are_ranked_by_themselves_and_by_what_follows_them(
    ratings: list[float], order: list[str]
) -> None:
    waiting = pending(
        offer("less", is_ended=True, logprob=-1.0), offer("likely", is_ended=True, logprob=-0.2)
    )
    waiting.refresh()
    by_text = dict(zip(["likely", "less"], ratings, strict=True))
    waiting.rank([by_text[one.text] for one, _ in waiting.offers])
    assert texts(waiting.candidates()) == order


async def test_usage_is_that_of_all_candidates_that_ran_together() -> None:
    first, second = offer("one", is_ended=True), offer("two", is_ended=True)
    first.generation.usage = EngineUsage(new_tokens=3, prefill_ms=2.0, finish_reason="stop")
    second.generation.usage = EngineUsage(new_tokens=4, prefill_ms=1.0, finish_reason="length")
    known = offer("three", is_ended=True)
    known.generation.usage = EngineUsage(new_tokens=50)
    waiting = pending(first, second, known)
    waiting.ran = {first.generation, second.generation}
    assert waiting.usage().finish_reason == "deadline"
    waiting.refresh()
    usage = waiting.usage()
    assert (usage.new_tokens, usage.prefill_ms, usage.finish_reason) == (7, 3.0, "stop")
    first.generation.is_cut = True
    assert waiting.usage().finish_reason == "length"


async def test_a_candidate_that_is_far_less_likely_than_the_best_is_left_out() -> None:
    likely, less, noise = (
        offer(text, is_ended=True, logprob=logprob)
        for text, logprob in (("one", -0.1), ("two", -1.0), ("zzz", -4.0))
    )
    waiting = pending(likely, less, noise)
    waiting.refresh()
    assert texts(waiting.candidates()) == ["one", "two"]
    alone = pending(noise)
    alone.refresh()
    assert texts(alone.candidates()) == ["zzz"]


async def test_a_candidate_that_was_shown_is_kept_when_a_better_one_comes() -> None:
    """It had been dropped for the better one, which then stood in its place: a flicker."""
    grown: list[tuple[Candidate, ...]] = []
    nothing, likely = offer("  ", is_ended=True, logprob=-9.0), offer()
    noise = offer("zzz", is_ended=True, logprob=-4.0)
    waiting = pending(nothing, noise, likely, grown=grown)
    waiting.refresh()
    assert texts(grown[-1]) == ["zzz"]
    likely.generation.add(TextDelta(text="one", logprob=-0.1))
    likely.generation.is_ended = True
    waiting.refresh()
    assert texts(waiting.candidates()) == ["zzz", "one"]
