"""Every case of the tables, on the pure functions and through the completer."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from server.completion.completer import Completer
from server.completion.filters import FilterChain
from server.completion.gates import closed_gate
from server.completion.generation import Generation, Offer
from server.completion.offer_settings import engine_request, offer_settings
from server.completion.request import Candidate
from server.completion.stopping import stop_rules
from server.plugins import Plugins
from tests.completion_tables import Case, read_cases
from tests.fakes import FakeEngine, FakePlugins, ManualClock, say_by_turns

CASES = read_cases()
PLUGINS = Plugins()

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def broken(name: str, how: str) -> None:
    pytest.fail(f"filter {name}: {how}")


@each_case
def test_the_pure_functions_show_what_the_table_says(case: Case) -> None:
    request, options = case.request, case.options
    closed = closed_gate(request, options)
    if closed is not None:
        assert closed.reason == case.nothing
        return
    if case.selected:
        return  # The completer puts the selected text in front; see below.
    settings = offer_settings(request, options, "", 0)
    deltas = case.deltas[: options.max_new_tokens]
    generation = Generation(
        place=request,
        request=engine_request(request, settings.generation),
        settings=settings.generation,
        is_ended=True,
        is_cut=len(deltas) == options.max_new_tokens,
    )
    for delta in deltas:
        generation.add(delta)
    filters = [(name, PLUGINS.load("filters", name)) for name in options.filters]
    offer = Offer(
        request=request,
        settings=settings,
        generation=generation,
        rules=stop_rules(request, settings.multi_line, settings.max_lines),
        filters=FilterChain(filters, broken),
        min_confidence=settings.min_confidence,
    )
    offer.update()
    assert (offer.text, offer.reason) == (case.expected, case.nothing)


@each_case
async def test_the_completer_answers_what_the_table_says(case: Case) -> None:
    plugins, engine = FakePlugins(), FakeEngine(lambda _: case.deltas, is_gated=True)
    plugins.provide("engines", "fake", engine.as_plugin())
    completer = Completer(
        case.options, plugins, clock=ManualClock(), on_status=lambda status: None, frame_s=0.0
    )
    completer.start()
    await completer.wait_ready()
    grown: list[tuple[Candidate, ...]] = []
    task = asyncio.create_task(completer.complete(case.request, grown.append))
    await say_by_turns(engine, task)
    streamed = await task
    engine.is_open = True
    completer.document_closed(case.request.document)
    answer = await completer.complete(case.request)
    await completer.close()
    assert answer.reason == case.nothing
    given = [(c.text, c.n_replaced) for c in answer.candidates]
    assert given == ([(case.expected, case.replaced)] if case.expected else [])
    grown_to = [(case.streamed, case.replaced)] if case.streamed else given
    assert [(c.text, c.n_replaced) for c in streamed.candidates] == grown_to
    steps = [candidates[0].text for candidates in [*grown, streamed.candidates] if candidates]
    for shorter, longer in itertools.pairwise(steps):
        assert longer.startswith(shorter)


def test_the_table_is_large_and_in_many_languages() -> None:
    assert len(CASES) >= 150
    by_language = Counter(case.language for case in CASES)
    for language in ("python", "typescript", "go", "c", "html", "markdown", "yaml"):
        assert by_language[language] >= 8, language
    for what in ("\r\n", "\t"):
        assert sum(what in case.text for case in CASES) >= 5, repr(what)
    assert sum(any(ord(c) > 0xFFFF for c in case.text) for case in CASES) >= 5
    assert sum(case.text.partition("$0")[2][:1] in tuple(")]}\"'`") for case in CASES) >= 20
