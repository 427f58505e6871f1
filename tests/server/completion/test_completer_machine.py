"""Requests against one completer by generated use, on a manual clock: typed, cancelled, closed.

Nothing that is asserted depends on which thread is quicker. The engine is one whose answers follow
from the line, as a deterministic model's do: what a fresh computation would say is known.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.completion.completer import Completer
from server.completion.engine import EngineRequest
from server.completion.request import Answer, Candidate, CompletionRequest
from server.options import Options
from tests.fakes import FakeEngine, FakePlugins, ManualClock

LINES = ("alpha beta gamma delta", "alpha bravo", "north of the river (and back)")
NAMES = st.sampled_from(["file:///a", "file:///b"])
DEADLINE_MS = 400
OPTIONS = Options(
    engine="fake",
    debounce_ms=50,
    max_debounce_ms=50,
    deadline_ms=DEADLINE_MS,
    filters=("blank",),
    multi_line="never",
    context_sources=(),
)
TURNS = 60
"""Of the event loop; more than any answer takes that waits for nothing but the loop."""


def rest_of(line: str) -> str:
    """What a fresh computation says after the beginning of a line."""
    return next((one[len(line) :] for one in LINES if one.startswith(line)), "")


@dataclass(eq=False)
class Asked:
    """A request, and all that came of it."""

    document: str
    line: str
    asked_s: float
    task: asyncio.Task[Answer]
    is_newest: bool = True
    """Of its document, while it waits."""
    is_cancelled: bool = False
    shown: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Shown after a newer request came."""


class Requests(RuleBasedStateMachine):
    """The model: what each document's line is, and the request that may still answer."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.asked: list[Asked] = []
        self.lines = {"file:///a": "", "file:///b": ""}
        self.clock = ManualClock()

    @initialize()
    def start(self) -> None:
        def said(request: EngineRequest) -> list[str]:
            line = request.prefix.rpartition("\n")[2]
            return [*rest_of(line), "\n"]

        self.engine = FakeEngine(said, is_gated=True)
        plugins = FakePlugins()
        plugins.provide("engines", "fake", self.engine.as_plugin())

        async def begin() -> None:
            self.completer = Completer(
                OPTIONS,
                plugins,
                clock=self.clock,
                on_status=lambda status: None,
                frame_s=0.0,
            )
            self.completer.start()
            assert await self.completer.wait_ready()

        self.loop.run_until_complete(begin())

    def turn(self) -> None:
        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    # What a person does.

    @rule(name=NAMES, line=st.sampled_from(LINES), n_chars=st.integers(0, 12))
    def begin_line(self, name: str, line: str, n_chars: int) -> None:
        self.lines[name] = line[:n_chars]
        self.ask(name)

    @rule(name=NAMES, n_chars=st.integers(1, 6))
    def type_along(self, name: str, n_chars: int) -> None:
        self.lines[name] += rest_of(self.lines[name])[:n_chars]
        self.ask(name)

    @rule(name=NAMES, other=st.sampled_from("xa ("))
    def type_another(self, name: str, other: str) -> None:
        self.lines[name] += other
        self.ask(name)

    @rule(name=NAMES, n_chars=st.integers(1, 4))
    def delete_back(self, name: str, n_chars: int) -> None:
        self.lines[name] = self.lines[name][:-n_chars]
        self.ask(name)

    @rule(name=NAMES)
    def ask_again(self, name: str) -> None:
        self.ask(name)

    @rule(name=NAMES)
    def ask_twice_in_one_turn(self, name: str) -> None:
        self.ask(name, turns=False)
        self.ask(name)

    @rule(n=st.integers(0, 1))
    def cancel(self, n: int) -> None:
        """Cancel a request, if one waits: that may depend on which thread was quicker."""
        if not (waiting := self.waiting):
            return
        one = waiting[n % len(waiting)]
        one.is_cancelled = True
        one.task.cancel()
        self.turn()
        assert one.task.done()

    @rule(name=NAMES)
    def close(self, name: str) -> None:
        """Close a document: its request is answered, and nothing of it is remembered."""
        self.completer.document_closed(name)
        for one in self.asked:
            if one.document == name:
                one.is_newest = False
        self.turn()
        assert not [one for one in self.waiting if one.document == name]

    # What time and the engine do.

    @rule(n_pieces=st.integers(1, 30))
    def let_the_engine_speak(self, n_pieces: int) -> None:
        self.engine.allow(n_pieces)
        self.turn()

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.2, 1.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turn()

    @property
    def waiting(self) -> list[Asked]:
        return [one for one in self.asked if not one.task.done()]

    def ask(self, name: str, *, turns: bool = True) -> None:
        line = self.lines[name]
        earlier = [older for older in self.asked if older.document == name]
        request = CompletionRequest(
            document=name, version=len(self.asked), prefix=f"start\n{line}", suffix="\nend"
        )

        async def complete(grow: Any) -> Answer:
            for older in earlier:
                older.is_newest = False
            return await self.completer.complete(request, grow)

        def grow(candidates: tuple[Candidate, ...]) -> None:
            (one.shown if one.is_newest else one.late).extend(c.text for c in candidates)

        one = Asked(name, line, self.clock.now(), self.loop.create_task(complete(grow)))
        self.asked.append(one)
        if turns:
            self.turn()

    # What must hold at any time.

    @invariant()
    def a_document_has_one_open_request_the_latest(self) -> None:
        for one in self.waiting:
            assert one.is_newest, "an older request is answered at once"

    @invariant()
    def no_request_waits_beyond_its_deadline(self) -> None:
        for one in self.waiting:
            assert self.clock.now() - one.asked_s < DEADLINE_MS / 1000

    @invariant()
    def nothing_is_shown_for_an_old_version(self) -> None:
        for one in self.asked:
            assert not one.late

    @invariant()
    def each_request_is_recorded_once(self) -> None:
        begun = [one for one in self.asked if one.task.done() and not one.is_cancelled]
        n_cancelled = sum(one.is_cancelled for one in self.asked)
        if hasattr(self, "completer") and len(self.asked) < 90:
            n_recorded = len(self.completer.requests)
            assert len(begun) <= n_recorded <= len(begun) + n_cancelled

    @invariant()
    def what_is_said_is_what_a_fresh_computation_says(self) -> None:
        for one in self.asked:
            fresh = rest_of(one.line)
            given = list(one.shown)
            if one.task.done() and not one.task.cancelled():
                answer = one.task.result()
                assert not (answer.is_superseded and answer.candidates)
                given += [candidate.text for candidate in answer.candidates]
                if answer.candidates and answer.usage.finish_reason == "stop":
                    assert given[-1] == fresh.rstrip()
            for shorter, longer in itertools.pairwise(given):
                assert longer.startswith(shorter)
            assert all(fresh.startswith(text) for text in given)

    def teardown(self) -> None:
        """Whatever was asked is answered in the end, once."""
        if hasattr(self, "completer"):
            self.engine.is_open = True
            self.clock.advance(10)
            self.turn()
            assert self.waiting == []
            self.what_is_said_is_what_a_fresh_computation_says()
            self.loop.run_until_complete(self.completer.close())
            assert self.engine.is_closed
            assert self.completer.counters.requests == len(
                [one for one in self.asked if not one.is_cancelled]
            ) + sum(one.is_cancelled for one in self.asked)
        self.loop.close()


TestRequests = Requests.TestCase
TestRequests.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
