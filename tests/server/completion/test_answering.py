"""From an open request to its answer, without an engine."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from server.completion.answering import Answering
from server.completion.engine_room import EngineRoom
from server.completion.filters import FilterChain
from server.completion.generation import Generation, Offer
from server.completion.offer_settings import engine_request, offer_settings
from server.completion.pending import Pending
from server.completion.request import CompletionRequest
from server.completion.stopping import stop_rules
from server.options import Options
from tests.fakes import ManualClock

PLACE = CompletionRequest(document="file:///a", version=1, prefix="x = ", suffix="")


def complete_request() -> Pending:
    """Return a request to which all is there."""
    settings = offer_settings(PLACE, Options(), "", 0)
    generation = Generation(
        place=PLACE,
        request=engine_request(PLACE, settings.generation),
        settings=settings.generation,
        is_ended=True,
    )
    offer = Offer(
        request=PLACE,
        settings=settings,
        generation=generation,
        rules=stop_rules(PLACE, "never", 1),
        filters=FilterChain([], print),
    )
    settled: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return Pending(
        request=PLACE, selected_text="", offers=[(offer, 0)], on_growth=None, settled=settled
    )


async def test_a_request_whose_text_is_complete_as_a_newer_one_comes_is_superseded() -> None:
    """Its task wakes a few turns of the loop later than it is complete; a newer request that came
    meanwhile, and was answered from what is remembered, had its answer first.
    """
    answering = Answering(cast(EngineRoom, None), ManualClock(), lambda: None)
    pending = complete_request()
    pending.refresh()
    assert pending.settled.result() == "complete"
    pending.supersede()
    answer = await answering.answer(pending, Options(), 0.0)
    assert answer.is_superseded
    assert answer.candidates == ()
