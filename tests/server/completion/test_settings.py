"""Every setting that may change while the server runs changes what the completer does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from server.completion.completer import Completer
from server.completion.engine import EngineRequest, TextDelta
from server.completion.request import Answer, CompletionRequest
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins, ManualClock

QUICK = Options(engine="fake", debounce_ms=0, max_debounce_ms=0)
ASKED = CompletionRequest(
    document="file:///a.py",
    version=1,
    prefix="# a page of code\ndef f(x):",
    suffix="\n",
    language="python",
    path="src/a.py",
    n_chars=2000,
)
BLOCK = ["\n    y = x", "\n    z = y", "\n    return z<|end|>", "\n\n"]
COMMENT = replace(ASKED, prefix="# the ")


def said(request: EngineRequest) -> list[TextDelta]:
    texts = BLOCK if request.prefix.endswith(":") else [f"sum {request.candidate}", "\n"]
    return [TextDelta(text=text, logprob=math.log(0.5)) for text in texts]


def texts(answer: Answer, engine: FakeEngine) -> Any:
    return [candidate.text for candidate in answer.candidates], answer.reason


def asked_of_engine(answer: Answer, engine: FakeEngine) -> Any:
    return engine.streams[0]


CHANGES: dict[str, tuple[Any, CompletionRequest, Callable[[Answer, FakeEngine], Any]]] = {
    "enabled": (False, ASKED, texts),
    "languages": ({"python": False}, ASKED, texts),
    "scopes": ({"comment": False}, COMMENT, texts),
    "denied_paths": (("src/",), ASKED, texts),
    "ignored_files": (True, replace(ASKED, is_ignored=True), texts),
    "generated_files": (True, replace(ASKED, prefix=f"# @generated\n{ASKED.prefix}"), texts),
    "max_document_chars": (1000, ASKED, texts),
    "multi_line": ("never", ASKED, texts),
    "multi_line_languages": ({"python": "never"}, ASKED, texts),
    "max_lines": (2, ASKED, texts),
    "max_new_tokens": (1, ASKED, texts),
    "candidates": (1, replace(COMMENT, trigger="invoked"), texts),
    "min_confidence": (0.6, ASKED, texts),
    "memory": ("document", ASKED, asked_of_engine),
    "drafts": (False, ASKED, asked_of_engine),
    "other_licences": (False, ASKED, asked_of_engine),
    "fill_in_middle": ("never", ASKED, asked_of_engine),
    "temperature": (0.5, ASKED, asked_of_engine),
    "top_k": (5, ASKED, asked_of_engine),
    "top_p": (0.5, ASKED, asked_of_engine),
    "seed": (1, ASKED, asked_of_engine),
    "filters": (("blank",), ASKED, texts),
    "context_sources": (("path",), ASKED, asked_of_engine),
}
WAITS = {"debounce_ms", "max_debounce_ms", "deadline_ms"}


async def complete(options: Options, request: CompletionRequest) -> tuple[Answer, FakeEngine]:
    engine, plugins = FakeEngine(said), FakePlugins()
    plugins.provide("engines", "fake", engine.as_plugin())
    completer = Completer(QUICK, plugins, clock=ManualClock(), on_status=lambda status: None)
    completer.start()
    await completer.wait_ready()
    completer.set_options(options)
    answer = await completer.complete(request)
    await completer.close()
    return answer, engine


@pytest.mark.parametrize("name", CHANGES)
async def test_a_setting_changes_what_the_completer_does(name: str) -> None:
    value, request, seen = CHANGES[name]
    before = seen(*await complete(QUICK, request))
    after = seen(*await complete(replace(QUICK, **{name: value}), request))
    assert before != after


def test_every_setting_that_may_change_is_here() -> None:
    running = {f.name for f in fields(Options) if not f.metadata["at_start"]}
    assert running == CHANGES.keys() | WAITS


async def waited(options: Options, n_keys: int = 1, service_s: float = 0.0) -> float:
    """Return the time that must pass before the engine is asked."""
    engine, plugins, clock = FakeEngine(said), FakePlugins(), ManualClock()
    plugins.provide("engines", "fake", engine.as_plugin())
    completer = Completer(options, plugins, clock=clock, on_status=lambda status: None)
    completer.start()
    await completer.wait_ready()
    assert completer._answering is not None
    completer._answering.runs.service.note(service_s)
    for _ in range(n_keys):
        clock.advance(0.2)
        completer._answering.rhythm.keystroke(clock.now())
    clock.advance(0.2)
    task, start = asyncio.create_task(completer.complete(ASKED)), clock.now()
    while not task.done():
        await asyncio.sleep(0)
        if clock.n_sleepers and not engine.streams and completer.is_idle:
            clock.advance(0.01)
    await completer.close()
    return clock.now() - start


async def test_debounce_is_the_least_wait() -> None:
    assert await waited(replace(QUICK, debounce_ms=0)) == 0
    assert await waited(replace(QUICK, debounce_ms=100)) == pytest.approx(0.1, abs=0.011)


async def test_max_debounce_is_the_longest_wait_for_a_slow_model() -> None:
    short = replace(QUICK, debounce_ms=10, max_debounce_ms=50)
    long = replace(QUICK, debounce_ms=10, max_debounce_ms=500)
    assert await waited(short, 10, service_s=1.0) == pytest.approx(0.05, abs=0.011)
    assert await waited(long, 10, service_s=1.0) == pytest.approx(0.2, abs=0.011)


async def test_the_deadline_ends_the_wait() -> None:
    for deadline_ms in (100, 700):
        engine, plugins, clock = FakeEngine(said, is_gated=True), FakePlugins(), ManualClock()
        plugins.provide("engines", "fake", engine.as_plugin())
        options = replace(QUICK, deadline_ms=deadline_ms)
        completer = Completer(options, plugins, clock=clock, on_status=lambda status: None)
        completer.start()
        await completer.wait_ready()
        task = asyncio.create_task(completer.complete(ASKED))
        while not clock.n_sleepers:
            await asyncio.sleep(0)
        clock.advance(deadline_ms / 1000 - 0.001)
        await asyncio.sleep(0)
        assert not task.done()
        clock.advance(0.002)
        assert (await task).reason == "nothing was finished in time"
        await completer.close()
