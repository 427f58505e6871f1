"""One request's life, with a scripted engine and a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.completion.completer import Completer
from server.completion.context import similar_code
from server.completion.engine import EngineRequest
from server.completion.request import Answer, Candidate, CompletionRequest
from server.completion.status import Status
from server.errors import BundleError, EngineError
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins, ManualClock, say_by_turns

SCRIPT = "def area(radius):\n    return pi * radius * radius\n\n\nprint(area(2))\n"
NO_WAIT = Options(engine="fake", debounce_ms=0, max_debounce_ms=0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop and the engine's thread go on until something is so."""
    while not condition():
        await asyncio.sleep(0)


class Room:
    """A completer with its doubles."""

    def __init__(self, engine: FakeEngine, options: Options) -> None:
        self.engine = engine
        self.clock = ManualClock()
        self.statuses: list[Status] = []
        self.plugins = FakePlugins()
        self.plugins.provide("engines", "fake", engine.as_plugin())
        self.completer = Completer(
            options,
            self.plugins,
            clock=self.clock,
            on_status=self.statuses.append,
            frame_s=0.0,
        )

    async def ask(self, text: str, **fields: object) -> Answer:
        return await self.completer.complete(request(text, **fields))

    def asks(self, text: str, **fields: object) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.ask(text, **fields))

    async def grow(self, text: str) -> tuple[list[tuple[Candidate, ...]], Answer]:
        """Ask and let a gated engine speak by turns; return how the text grew, and the answer."""
        grown: list[tuple[Candidate, ...]] = []
        task = asyncio.create_task(self.completer.complete(request(text), grown.append))
        await say_by_turns(self.engine, task)
        return grown, await task


def request(text: str, **fields: object) -> CompletionRequest:
    """Make a request from a text in which the cursor is drawn as `$0`."""
    prefix, _, suffix = text.partition("$0")
    made = CompletionRequest(
        document="file:///a.py", version=1, prefix=prefix, suffix=suffix, language="python"
    )
    return replace(made, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def room(
    script: str | Callable[[EngineRequest], list[str]] = SCRIPT,
    options: Options = NO_WAIT,
    **engine: object,
) -> AsyncIterator[Room]:
    opened = Room(FakeEngine(script, **engine), options)  # type: ignore[arg-type]
    opened.completer.start()
    await opened.completer.wait_ready()
    yield opened
    await opened.completer.close()
    assert opened.clock.n_sleepers == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def texts(answer: Answer) -> list[str]:
    return [candidate.text for candidate in answer.candidates]


async def test_a_line_is_completed_to_its_end() -> None:
    async with room() as r:
        answer = await r.ask("def area(radius):\n    return $0\n")
        assert texts(answer) == ["pi * radius * radius"]
        assert answer.source == "model"
        assert answer.reason == ""
        assert answer.usage.new_tokens == 6


async def test_the_engine_is_touched_by_one_thread_only() -> None:
    async with room(options=replace(NO_WAIT, debounce_ms=10)) as r:
        task = r.asks("def $0")
        await until(lambda: bool(r.engine.warmed))
        r.clock.advance(0.01)
        await task
        assert r.engine.threads == {"foretype-engine"}


async def test_typing_along_the_shown_text_needs_no_model() -> None:
    async with room() as r:
        first = await r.ask("def area(radius):\n    return $0\n")
        for typed in ("p", "pi", "pi * ra"):
            answer = await r.ask(f"def area(radius):\n    return {typed}$0\n")
            assert texts(answer) == ["pi * radius * radius".removeprefix(typed)]
            assert answer.source == "cache"
            assert answer.candidates[0].id == first.candidates[0].id
        assert len(r.engine.streams) == 1


async def test_deleting_back_to_shown_text_needs_no_model() -> None:
    async with room() as r:
        await r.ask("def area(radius):\n    return $0\n")
        await r.ask("def area(radius):\n    return x$0\n")
        answer = await r.ask("def area(radius):\n    return $0\n")
        assert answer.source == "cache"
        assert texts(answer) == ["pi * radius * radius"]


async def test_an_answer_without_text_is_remembered_with_its_reason() -> None:
    async with room(script="x = 1") as r:
        first = await r.ask("x = 1$0")
        again = await r.ask("x = 1$0")
        assert first.reason == again.reason == "the model has nothing to add"
        assert len(r.engine.streams) == 1


async def test_a_changed_suffix_asks_the_model_again() -> None:
    async with room() as r:
        await r.ask("def area(radius):\n    return $0\n")
        await r.ask("def area(radius):\n    return $0\nx = 1\n")
        assert len(r.engine.streams) == 2


async def test_changed_settings_ask_again_and_the_old_ones_are_remembered() -> None:
    async with room() as r:
        await r.ask("def area(radius):\n    return $0\n")
        r.completer.set_options(replace(NO_WAIT, temperature=0.5))
        await r.ask("def area(radius):\n    return $0\n")
        assert len(r.engine.streams) == 2
        r.completer.set_options(NO_WAIT)
        assert (await r.ask("def area(radius):\n    return $0\n")).source == "cache"


async def test_a_bracket_that_the_editor_inserts_keeps_the_offer() -> None:
    async with room(script="total = sum(values)\n") as r:
        await r.ask("total = sum$0\n")
        answer = await r.ask("total = sum($0)\n")
        assert answer.source == "cache"
        assert [(c.text, c.n_replaced) for c in answer.candidates] == [("values)", 1)]


async def test_newer_request_supersedes_older() -> None:
    async with room(is_gated=True) as r:
        older = r.asks("def area(radius):\n    return $0\n")
        await until(lambda: len(r.engine.streams) == 1)
        newer = r.asks("def area(radius):\n    return x$0\n")
        answer = await older
        assert answer.is_superseded
        assert answer.candidates == ()
        r.engine.allow(100)
        assert not (await newer).is_superseded
        assert r.engine.n_cancelled == 1


async def test_a_generation_in_flight_goes_on_for_the_newer_request() -> None:
    async with room(is_gated=True) as r:
        older = r.asks("def area(radius):\n    return $0\n")
        r.engine.allow(2)
        await until(lambda: r.engine.n_said == 2)
        newer = r.asks("def area(radius):\n    return pi$0\n")
        assert (await older).is_superseded
        r.engine.allow(100)
        answer = await newer
        assert answer.source == "in_flight"
        assert texts(answer) == [" * radius * radius"]
        assert len(r.engine.streams) == 1


async def test_requests_of_two_documents_do_not_supersede_each_other() -> None:
    async with room() as r:
        tasks = [r.asks("def $0", document=name) for name in ("file:///a", "file:///b")]
        answers = await asyncio.gather(*tasks)
        assert [answer.is_superseded for answer in answers] == [False, False]


async def test_cancelling_raises_at_once_and_stops_the_engine() -> None:
    async with room(is_gated=True) as r:
        task = r.asks("def area(radius):\n    return $0\n")
        r.engine.allow(1)
        await until(lambda: r.engine.n_said == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: r.completer.is_idle)
        assert r.engine.n_said == 1
        assert r.engine.n_cancelled == 1
        assert r.completer.status.state == "ready"


async def test_a_cancelled_generation_is_gone_on_with() -> None:
    async with room(is_gated=True) as r:
        task = r.asks("def area(radius):\n    return $0\n")
        r.engine.allow(2)
        await until(lambda: r.engine.n_said == 2)
        task.cancel()
        await until(lambda: r.completer.is_idle)
        r.engine.allow(100)
        answer = await r.ask("def area(radius):\n    return $0\n")
        assert texts(answer) == ["pi * radius * radius"]
        assert r.engine.streams[1].prefix.startswith("def area(radius):\n    return pi")


async def test_debounce_delays_decoding_but_not_prefilling() -> None:
    async with room(options=Options(engine="fake", debounce_ms=60)) as r:
        task = r.asks("def area(radius):\n    return $0\n")
        await until(lambda: bool(r.engine.warmed))
        assert r.engine.streams == []
        r.clock.advance(0.059)
        await asyncio.sleep(0)
        assert r.engine.streams == []
        r.clock.advance(0.001)
        assert texts(await task) == ["pi * radius * radius"]


async def test_debounce_is_skipped_on_a_hit_and_on_an_explicit_request() -> None:
    async with room(options=Options(engine="fake", debounce_ms=60)) as r:
        explicit = await r.ask("def area(radius):\n    return $0\n", trigger="invoked")
        assert texts(explicit)[0] == "pi * radius * radius"
        hit = await r.ask("def area(radius):\n    return p$0\n")
        assert hit.source == "cache"


async def test_a_request_superseded_while_it_waits_never_decodes() -> None:
    async with room(options=Options(engine="fake", debounce_ms=60)) as r:
        older = r.asks("d$0")
        await until(lambda: bool(r.engine.warmed))
        newer = r.asks("de$0")
        assert (await older).is_superseded
        await until(lambda: r.clock.n_sleepers == 1)
        r.clock.advance(0.06)
        await newer
        assert [stream.prefix for stream in r.engine.streams] == ["de"]


async def test_deadline_gives_whole_lines_and_the_rest_comes_from_the_cache() -> None:
    async with room(is_gated=True, options=replace(NO_WAIT, deadline_ms=300)) as r:
        task = r.asks("def area(radius):$0")
        script_lines = "\n    return pi * radius * radius"
        r.engine.allow(4)
        await until(lambda: r.engine.n_said == 4)
        await until(lambda: r.clock.n_sleepers == 1)
        r.clock.advance(0.3)
        first = await task
        assert texts(first) == ["\n    return pi *"]
        r.engine.allow(100)
        await until(lambda: r.completer.is_idle)
        again = await r.ask("def area(radius):$0")
        assert texts(again) == [script_lines]
        assert again.source == "cache"


async def test_deadline_with_nothing_finished_says_so() -> None:
    async with room(is_gated=True) as r:
        task = r.asks("def $0")
        await until(lambda: r.clock.n_sleepers == 1)
        r.clock.advance(2.0)
        assert (await task).reason == "nothing was finished in time"


async def test_text_grows_and_the_answer_extends_it() -> None:
    async with room(script="total = sum(values) / len(values)\n", is_gated=True) as r:
        grown, answer = await r.grow("total = $0\n")
        steps = [candidates[0].text for candidates in grown]
        assert len(steps) > 3
        assert all(new.startswith(old) for old, new in itertools.pairwise(steps))
        assert texts(answer)[0].startswith(steps[-1])
        assert {c.id for candidates in grown for c in candidates} == {answer.candidates[0].id}


async def test_an_explicit_request_gives_distinct_candidates() -> None:
    def said(asked: EngineRequest) -> list[str]:
        return [["one"], ["one "], ["two"]][asked.candidate]

    async with room(script=said) as r:
        answer = await r.ask("x = $0\n", trigger="invoked")
        assert texts(answer) == ["one", "two"]
        assert [stream.candidate for stream in r.engine.streams] == [0, 1, 2]


async def test_candidates_are_ranked_by_what_stands_after_the_cursor() -> None:
    def said(asked: EngineRequest) -> list[str]:
        return [["open(a)"], ["close(a)"], ["read(a)"]][asked.candidate]

    text = "a = b\n$0\n\nclose(b)\n"
    async with room(script=said) as r:
        r.engine.rating = lambda prefix, text: {"open": -3.0, "clos": -2.0, "read": -1.0}[
            prefix.removeprefix("a = b\n")[:4]
        ]
        answer = await r.ask(text, trigger="invoked")
        assert texts(answer) == ["read(a)", "close(a)", "open(a)"]
        assert r.engine.rated[0] == ("a = b\nopen(a)", "\n\nclose(b)")


async def test_candidates_that_were_shown_keep_their_order() -> None:
    def said(asked: EngineRequest) -> list[str]:
        return [["open(a)"], ["close(a)"], ["read(a)"]][asked.candidate]

    async with room(script=said) as r:
        r.engine.rating = lambda prefix, text: float(len(prefix))
        grown: list[tuple[Candidate, ...]] = []
        asked = request("a = b\n$0\nclose(b)\n", trigger="invoked")
        answer = await r.completer.complete(asked, grown.append)
        assert texts(answer) == ["open(a)", "close(a)", "read(a)"]
        assert r.engine.rated == []


async def test_a_request_superseded_while_it_is_ranked_says_so() -> None:
    rating, go_on = threading.Event(), threading.Event()

    def slowly(prefix: str, text: str) -> float:
        rating.set()
        assert go_on.wait(10)
        return 0.0

    def said(asked: EngineRequest) -> list[str]:
        return [["one"], ["two"], ["three"]][asked.candidate]

    async with room(script=said) as r:
        r.engine.rating = slowly
        older = r.asks("x = $0\ny = 1\n", trigger="invoked")
        await until(rating.is_set)
        newer = r.asks("x = $0\n")
        assert (await older).is_superseded
        go_on.set()
        await newer


async def test_selected_text_is_extended() -> None:
    async with room() as r:
        answer = await r.ask("def area(radius):\n    ret$0\n", selected_text="urn")
        assert texts(answer) == ["urn pi * radius * radius"]


async def test_a_failing_engine_is_a_reason_and_a_status_and_is_tried_again() -> None:
    async with room(script=lambda _: [], error=EngineError("no answer from the server")) as r:
        answer = await r.ask("x = $0")
        assert answer.reason == "no answer from the server"
        assert r.statuses[-1].state == "error"
        r.engine.error = None
        r.engine.script = "x = 12"
        assert texts(await r.ask("x = $0")) == ["12"]
        assert r.statuses[-1].state == "ready"


async def test_an_engine_that_cannot_be_loaded_leaves_the_completer_up() -> None:
    async with room(load_error=BundleError("no manifest.json in /models/x")) as r:
        assert r.statuses[-1] == Status(state="error", message="no manifest.json in /models/x")
        assert (await r.ask("x = $0")).reason == "no manifest.json in /models/x"


async def test_an_unknown_engine_is_named() -> None:
    async with room(options=replace(NO_WAIT, engine="fakee")) as r:
        assert "no plugin 'fakee'" in r.completer.status.message


async def test_requests_before_the_engine_is_loaded_say_so() -> None:
    r = Room(FakeEngine(SCRIPT), NO_WAIT)
    assert (await r.ask("x = $0")).reason == "the model is being loaded"
    await r.completer.close()


async def test_status_goes_from_loading_over_busy_to_ready() -> None:
    async with room() as r:
        await r.ask("def $0")
        await until(lambda: r.completer.is_idle)
        states = [(status.state, status.percent) for status in r.statuses]
        assert states[0] == ("loading", 0)
        assert states[1:] == [("ready", None), ("busy", None), ("ready", None)]


async def test_switching_off_and_on_again() -> None:
    async with room() as r:
        r.completer.set_options(replace(NO_WAIT, enabled=False))
        assert (await r.ask("def $0")).reason == "switched off"
        assert r.statuses[-1].state == "off"
        r.completer.set_options(NO_WAIT)
        assert r.statuses[-1].state == "ready"
        assert (await r.ask("def $0")).candidates


async def test_a_denied_path_is_inactive_and_the_next_document_is_not() -> None:
    async with room() as r:
        assert (await r.ask("KEY=$0", path=".env")).reason == "the path is denied by '.env'"
        assert r.statuses[-1].state == "inactive"
        assert r.engine.streams == []
        assert (await r.ask("def $0", document="file:///b.py")).candidates
        await until(lambda: r.completer.is_idle)
        assert r.statuses[-1].state == "ready"


async def test_warming_prefills_and_asks_for_no_text() -> None:
    async with room() as r:
        r.completer.warm(request("def area$0"))
        await until(lambda: r.completer.is_idle)
        assert [warmed.prefix for warmed in r.engine.warmed] == ["def area"]
        assert r.engine.streams == []


async def test_documents_that_were_opened_while_the_engine_was_loaded_are_warmed_then() -> None:
    r = Room(FakeEngine(SCRIPT), NO_WAIT)
    r.completer.start()
    for name in "abc":
        r.completer.warm(request(f"def {name}$0", document=f"file:///{name}"))
    r.completer.document_closed("file:///b")
    await r.completer.wait_ready()
    await until(lambda: r.completer.is_idle)
    assert [warmed.prefix for warmed in r.engine.warmed] == ["def a", "def c"]
    await r.completer.close()


async def test_a_denied_document_is_never_warmed() -> None:
    async with room() as r:
        r.completer.warm(request("KEY=$0", path="secrets/.env"))
        await until(lambda: r.completer.is_idle)
        assert r.engine.warmed == []


async def test_after_an_answer_the_engine_may_warm_ahead_and_what_it_did_is_counted() -> None:
    async with room() as r:
        r.engine.n_ahead = 32
        await r.ask("def area$0", trigger="invoked")
        await until(lambda: r.completer.counters.ahead_tokens == 32)
        (ahead,) = r.engine.warmed_ahead
        assert (ahead.prefix, ahead.is_explicit) == ("def area", False)


async def test_nothing_is_warmed_ahead_while_somebody_waits() -> None:
    async with room(is_gated=True) as r:
        older = r.asks("def $0")
        await until(lambda: bool(r.engine.streams))
        newer = r.asks("def a$0")
        assert (await older).is_superseded
        r.engine.is_open = True
        await newer
        await until(lambda: r.completer.is_idle)
        assert [ahead.prefix for ahead in r.engine.warmed_ahead] == ["def a"]


async def test_nothing_is_warmed_ahead_where_nothing_is_offered() -> None:
    async with room(is_gated=True) as r:
        await r.ask("KEY=$0", path=".env")
        task = r.asks("def $0")
        await until(lambda: bool(r.engine.streams))
        r.completer.document_closed("file:///a.py")
        assert (await task).reason == "the document was closed"
        await until(lambda: r.completer.is_idle)
        assert r.engine.warmed_ahead == []


async def test_a_closed_document_is_forgotten_by_the_engine_too() -> None:
    async with room() as r:
        await r.ask("def $0")
        r.completer.document_closed("file:///a.py")
        await until(lambda: r.completer.is_idle)
        assert r.engine.forgotten == ["file:///a.py"]
        assert (await r.ask("def $0")).source == "model"


async def test_a_document_is_switched_off_and_on_and_the_others_are_not() -> None:
    async with room() as r:
        r.completer.switch("file:///a.py")
        assert (await r.ask("def $0")).reason == "switched off for this file"
        assert r.statuses[-1].state == "off"
        assert (await r.ask("def $0", document="file:///b.py")).candidates
        r.completer.switch("file:///a.py")
        assert (await r.ask("def $0")).candidates


async def test_a_document_that_was_switched_off_is_on_when_it_is_opened_again() -> None:
    async with room() as r:
        r.completer.switch("file:///a.py")
        r.completer.document_closed("file:///a.py")
        assert (await r.ask("def $0")).candidates


async def test_the_status_is_that_of_the_document_that_the_user_turns_to() -> None:
    async with room() as r:
        r.completer.look_at(request("KEY=$0", path=".env"))
        assert r.statuses[-1].state == "inactive"
        r.completer.look_at(request("$0"))
        assert r.statuses[-1].state == "ready"
        assert r.engine.streams == []


async def test_a_document_that_the_user_turns_back_to_is_warm_where_it_was_left() -> None:
    async with room() as r:
        await r.ask("def area$0\n\n\ndef last\n")
        before = len(r.engine.warmed)
        r.completer.look_at(request("def area\n\n\ndef last\n$0"))
        await until(lambda: len(r.engine.warmed) > before)
        assert r.engine.warmed[-1].prefix == "def area"


async def test_what_is_off_does_not_hide_that_no_engine_runs() -> None:
    """The status was `ready` after switching off and on, though nothing could be completed."""
    async with room(load_error=BundleError("no manifest.json in /models/x")) as r:
        for is_enabled in (False, True):
            r.completer.set_options(replace(NO_WAIT, enabled=is_enabled))
            await r.ask("def $0")
            assert r.completer.status.state == "error"


async def test_text_that_is_shown_again_as_it_grows_is_counted_once() -> None:
    async with room() as r:
        (candidate,) = (await r.ask("def area(radius):\n    return $0\n")).candidates
        r.completer.shown(candidate.id)
        r.completer.shown(candidate.id)
        assert r.completer.counters.shown == 1


async def test_what_an_editor_tells_is_counted_and_ids_that_nobody_knows_do_no_harm() -> None:
    async with room() as r:
        answer = await r.ask("def area(radius):\n    return $0\n")
        r.completer.shown(answer.candidates[0].id)
        r.completer.partially_accepted(answer.candidates[0].id, 2)
        r.completer.accepted(answer.candidates[0].id)
        for tell in (r.completer.shown, r.completer.accepted):
            tell("nobody")
        r.completer.partially_accepted("nobody", 1)
        counters = r.completer.counters
        assert (counters.shown, counters.accepted, counters.partially_accepted) == (2, 2, 2)


async def test_at_the_deadline_no_beginning_of_a_further_candidate_is_offered() -> None:
    def said(asked: EngineRequest) -> list[str]:
        return [["one", "\n"], ["other", " thing"]][min(asked.candidate, 1)]

    async with room(script=said, is_gated=True) as r:
        task = r.asks("x = $0\n", trigger="invoked")
        r.engine.allow(3)
        await until(lambda: r.engine.n_said == 3 and r.clock.n_sleepers == 1)
        r.clock.advance(2.0)
        assert texts(await task) == ["one"]


async def test_a_filter_that_breaks_its_contract_is_blocked_and_named() -> None:
    r = Room(FakeEngine(SCRIPT), replace(NO_WAIT, filters=("raises", "longer", "blank")))

    def raises(draft: object) -> str:
        raise ValueError("no")

    r.plugins.provide("filters", "raises", raises)
    r.plugins.provide("filters", "longer", lambda draft: draft.text + "!")
    r.completer.set_options(replace(NO_WAIT, filters=("raises", "longer", "blank", "special")))
    r.completer.start()
    await r.completer.wait_ready()
    answer = await r.ask("def area(radius):\n    return $0\n")
    assert texts(answer) == ["pi * radius * radius"]
    assert r.plugins._blocked["filters", "raises"].startswith("it raised ValueError at ")
    assert r.plugins._blocked["filters", "longer"] == "it made the text longer"
    await r.completer.close()


async def test_a_context_source_reaches_the_engine() -> None:
    options = replace(NO_WAIT, context_sources=("path",))
    async with room(options=options) as r:
        await r.ask("def $0", path="src/a.py")
        assert r.engine.streams[0].context == "# src/a.py\n"


async def test_another_open_document_is_context_that_stays_while_typing() -> None:
    other = "def area(radius):\n    return pi * radius * radius\n"
    async with room() as r:
        r.plugins.provide("context", "similar", similar_code)
        r.completer.set_options(replace(NO_WAIT, context_sources=("path", "similar")))
        r.completer.warm(request(other + "$0", document="file:///b.py", path="b.py"))
        await r.ask("def area(radius):\n    $0\n", path="a.py")
        context = r.engine.streams[0].context
        assert context == f"# a.py\n# b.py\n{other.rstrip()}\n"
        r.completer.document_closed("file:///b.py")
        await r.ask("def area(radius):\n    x$0\n", path="a.py")
        assert r.engine.streams[1].context == context
        await r.ask("def area(radius):\n" + 50 * "    pass\n" + "    x$0\n", path="a.py")
        assert r.engine.streams[2].context == "# a.py\n"


async def test_a_denied_document_is_no_context() -> None:
    async with room() as r:
        r.plugins.provide("context", "similar", similar_code)
        r.completer.set_options(replace(NO_WAIT, context_sources=("similar",)))
        await r.ask("password = 1\nx = $0", document="file:///.env", path=".env")
        r.completer.warm(request("password = 1$0", document="file:///.env", path=".env"))
        await r.ask("password = $0")
        assert r.engine.streams[0].context == ""


async def test_what_git_ignores_in_the_workspace_is_found_out_and_is_no_context(
    tmp_path: Path,
) -> None:
    (tmp_path / ".gitignore").write_text("made.py\n")
    made, own = tmp_path / "made.py", tmp_path / "own.py"
    async with room() as r:
        r.plugins.provide("context", "similar", similar_code)
        r.completer.set_options(
            replace(NO_WAIT, context_sources=("similar",), memory="document", ignored_files=True)
        )
        r.completer.open_workspace([tmp_path])
        await r.ask("password = 1\nx = $0", document="file:///made.py", location=made)
        await r.ask("password = $0", location=own)
        assert r.engine.streams[1].context == ""
        r.completer.set_options(replace(NO_WAIT, memory="document"))
        answer = await r.ask("password = $0", document="file:///made.py", location=made)
        assert answer.reason == "git ignores the file (ignoredFiles)"
        (tmp_path / ".gitignore").write_text("")
        assert r.completer.learning is not None
        r.completer.learning.file_changed(tmp_path / ".gitignore")
        answer = await r.ask("password = $0", document="file:///made.py", location=made)
        assert "git" not in answer.reason


async def test_the_last_requests_are_recorded_without_their_text() -> None:
    async with room() as r:
        for n in range(120):
            await r.ask(f"x = {n}$0")
        assert len(r.completer.requests) == 100
        record = r.completer.requests[-1]
        assert record.document == "file:///a.py"
        assert record.reason == "the model has nothing to add"
        assert "x = " not in repr(record)


async def test_closing_answers_open_requests_and_closes_the_engine() -> None:
    r = Room(FakeEngine(SCRIPT, is_gated=True), NO_WAIT)
    r.completer.start()
    await r.completer.wait_ready()
    task = r.asks("def $0")
    await until(lambda: bool(r.engine.streams))
    await r.completer.close()
    assert (await task).reason == "the server is shutting down"
    assert r.engine.is_closed


async def test_half_characters_never_reach_the_engine() -> None:
    async with room() as r:
        await r.ask("x = '\ud83d$0'\udc00")
        assert r.engine.streams[0].prefix == "x = '\ufffd"


async def test_five_hundred_requests_are_answered_once_each_and_the_last_is_right() -> None:
    script = "value = " + " + ".join(f"term_{n}" for n in range(200)) + "\n"
    async with room(script=script) as r:
        tasks = []
        for n in range(500):
            tasks.append(r.asks(script[: 9 + n] + "$0"))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks)
        assert len(answers) == 500
        assert script[9 + 499 :].startswith(texts(answers[-1])[0])
        await until(lambda: r.completer.is_idle)
        assert len(asyncio.all_tasks()) == 1
        assert r.completer.counters.requests == 500


async def test_a_listener_that_fails_does_not_cost_the_answer() -> None:
    def fails(candidates: tuple[Candidate, ...]) -> None:
        raise BrokenPipeError("gone")

    async with room() as r:
        answer = await r.completer.complete(request("def area(radius):\n    return $0\n"), fails)
        assert texts(answer) == ["pi * radius * radius"]


@pytest.mark.parametrize("seed", range(2))
async def test_any_mix_of_typing_cancelling_and_closing_is_answered_once_each(seed: int) -> None:
    chance = random.Random(seed)
    script = "value = " + " + ".join(f"term_{n}" for n in range(60)) + "\n"
    async with room(script=script, is_gated=True) as r:
        place, tasks, grown = 9, [], list[tuple[Candidate, ...]]()
        for _ in range(500):
            place = max(9, min(len(script) - 2, place + chance.choice((-2, -1, 0, 1, 1, 1, 3))))
            asked = replace(
                request(script[:place] + "$0\n"),
                document=f"file:///{chance.randrange(3)}.py",
                trigger=chance.choice(("automatic", "automatic", "invoked")),
            )
            on_growth = grown.append if chance.random() < 0.5 else None
            tasks.append(asyncio.create_task(r.completer.complete(asked, on_growth)))
            await asyncio.sleep(0)
            r.engine.allow(chance.randrange(1, 3))
            if chance.random() < 0.2:
                chance.choice(tasks).cancel()
            if chance.random() < 0.02:
                r.completer.document_closed(asked.document)
            if chance.random() < 0.1:
                r.clock.advance(1.0)
        r.engine.is_open = True
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(answers) == 500
        kinds = {type(answer) for answer in answers}
        assert kinds == {Answer, asyncio.CancelledError}
        last = answers[-1]
        if isinstance(last, Answer) and last.candidates:
            assert script[place:].startswith(last.candidates[0].text)
        await until(lambda: r.completer.is_idle)
        assert len(asyncio.all_tasks()) == 1


async def test_text_that_was_shown_is_never_taken_back_whatever_a_filter_says() -> None:
    async with room(script="x = alpha + beta + gamma\n", is_gated=True) as r:
        r.plugins.provide(
            "filters", "moody", lambda draft: draft.text if "+" not in draft.text else ""
        )
        r.completer.set_options(replace(NO_WAIT, filters=("moody", "blank"), min_confidence=0.0))
        grown, answer = await r.grow("x = $0\n")
        assert [candidates[0].text for candidates in grown] == ["alpha"]
        assert texts(answer) == ["alpha"]
        assert texts(await r.ask("x = $0\n")) == ["alpha"]


async def test_what_follows_is_generated_ahead_of_text_that_was_shown_while_it_grew() -> None:
    async with room(script="x = alpha + beta\ny = gamma\n") as r:
        answer = await r.completer.complete(
            request("x = $0\n"), lambda candidates: r.completer.shown(candidates[0].id)
        )
        await until(lambda: r.completer.is_idle)
        r.completer.accepted(answer.candidates[0].id)
        following = await r.ask("x = alpha + beta$0\n")
        assert texts(following) == ["\ny = gamma"]
        assert following.source == "cache"


async def test_an_engine_that_only_says_what_is_cut_is_stopped() -> None:
    endless = ["run(data)", *(" + data" for _ in range(80))]
    async with room(script=lambda _: endless, is_gated=True) as r:
        task = r.asks("x = $0\n")
        while not task.done():
            n_allowed = r.engine.n_said + 1
            r.engine.allow()
            await until(lambda: r.engine.n_said == n_allowed or task.done())  # noqa: B023
        assert texts(await task) == ["run(data) + data"]
        await until(lambda: r.completer.is_idle)
        assert r.engine.n_said < 40
