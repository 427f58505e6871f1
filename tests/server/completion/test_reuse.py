"""Sessions of typing, deleting and accepting: where each answer comes from.

A case of `tests/data/reuse/*.toml` is a text with the cursor drawn as `$0`, what the model says
after it (after any other text it says `other`), and events. `event -> source: text` asks after the
event and expects that source and that text, less the white space around it. Optional: `others`,
what the model says as further candidates; `probability` of its pieces; `settings` (camelCase).
"""

from __future__ import annotations

import asyncio
import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from server.completion.completer import Completer
from server.completion.engine import EngineRequest, TextDelta
from server.completion.request import Answer, CompletionRequest
from server.options import Options, apply_settings, snake_case
from tests.fakes import FakeEngine, FakePlugins, ManualClock

FOLDER = Path(__file__).parents[2] / "data" / "reuse"
OPTIONS = Options(engine="fake", debounce_ms=0, max_debounce_ms=0)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One row of a table."""

    name: str
    text: str
    model: str
    events: list[str]
    language: str = "python"
    is_gated: bool = False
    others: Sequence[str] = ()
    probability: float = 0.9
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> Options:
        options, warnings = apply_settings(OPTIONS, self.settings)
        assert not warnings
        return options


def sessions() -> list[Session]:
    rows = []
    for path in sorted(FOLDER.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["case"]:
            rows.append(Session(**{**row, "name": f"{path.stem}: {row['name']}"}))
    return rows


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


@dataclass
class Editor:
    """A document, its cursor, and the server behind it."""

    session: Session
    completer: Completer
    engine: FakeEngine
    clock: ManualClock
    before: str = ""
    after: str = ""
    answer: Answer = field(default_factory=Answer)
    place: int = 0
    """Which candidate the editor shows."""
    ids: list[str] = field(default_factory=list)
    open_task: asyncio.Task[Answer] | None = None
    states: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, trigger: str = "automatic") -> asyncio.Task[Answer]:
        request = CompletionRequest(
            document="file:///a",
            version=1,
            prefix=self.before,
            suffix=self.after,
            language=self.session.language,
            trigger=trigger,  # type: ignore[arg-type]
        )
        return asyncio.create_task(self.completer.complete(request))

    async def expect(self, source: str, text: str, trigger: str) -> None:
        older, self.open_task = self.open_task, None
        task = self.ask(trigger)
        await asyncio.sleep(0)
        self.engine.is_open = True
        self.answer, self.place = await task, 0
        self.engine.is_open = not self.session.is_gated
        if older is not None and not older.cancelled():
            assert (await older).is_superseded
        assert self.answer.source == source, self.answer
        if text:
            assert self.answer.candidates[0].text.strip() == text
        if source == "none":
            assert self.answer.reason
        self.ids += [candidate.id for candidate in self.answer.candidates[:1]]
        if not self.session.is_gated:  # Else the next answer might still find it in flight.
            await until(lambda: self.completer.is_idle)

    def edit(self, before: str, after: str) -> None:
        self.states.append((self.before, self.after))
        self.before, self.after = before, after

    async def do(self, event: str) -> None:
        """Apply one event to the document."""
        action, _, rest = event.partition(" ")
        rest = rest.replace("\\n", "\n").replace("\\t", "\t")
        await getattr(self, f"do_{action}")(rest)

    async def do_ask(self, rest: str) -> None:
        pass

    async def do_invoke(self, rest: str) -> None:
        pass

    async def do_type(self, text: str) -> None:
        self.edit(self.before + text, self.after)

    async def do_delete(self, count: str) -> None:
        self.edit(self.before[: -int(count)], self.after)

    async def do_undo(self, rest: str) -> None:
        self.before, self.after = self.states.pop()

    async def do_pair(self, pair: str) -> None:
        self.edit(self.before + pair[0], pair[1] + self.after)

    async def do_unpair(self, rest: str) -> None:
        self.edit(self.before[:-1], self.after[1:])

    async def do_over(self, count: str) -> None:
        n = int(count)
        self.edit(self.before + self.after[:n], self.after[n:])

    async def do_move(self, count: str) -> None:
        text, place = self.before + self.after, len(self.before) + int(count)
        self.edit(text[:place], text[place:])

    async def do_above(self, text: str) -> None:
        self.edit(text + self.before, self.after)

    async def do_below(self, text: str) -> None:
        self.edit(self.before, self.after + text)

    async def do_accept(self, what: str) -> None:
        candidate = self.answer.candidates[self.place]
        text = candidate.text
        if what == "word":
            match = re.match(r"\s*(?:\w+|[^\w\s]+)", text)
            assert match is not None
            text = match.group()
        elif what == "line":
            text = "\n" + text.lstrip("\n").split("\n", 1)[0]
        if what == "all":
            self.completer.accepted(candidate.id)
            self.edit(self.before + text, self.after[candidate.n_replaced :])
            if not self.session.is_gated:
                await until(lambda: self.completer.is_idle)
        else:
            self.completer.partially_accepted(candidate.id, len(text))
            self.edit(self.before + text, self.after)

    async def do_cycle(self, text: str) -> None:
        """Show the next candidate, which is the one that the table says."""
        self.place = (self.place + 1) % len(self.answer.candidates)
        assert self.answer.candidates[self.place].text.strip() == text
        self.ids.append(self.answer.candidates[self.place].id)

    async def do_shown(self, rest: str) -> None:
        self.completer.shown(self.answer.candidates[0].id)
        if not self.session.is_gated:
            await until(lambda: self.completer.is_idle)

    async def do_wait(self, milliseconds: str) -> None:
        if self.open_task is not None:
            await until(lambda: self.clock.n_sleepers > 0)
        self.clock.advance(int(milliseconds) / 1000)
        if self.open_task is not None:
            self.answer, self.open_task = await self.open_task, None

    async def do_set(self, setting: str) -> None:
        name, _, value = setting.partition(" ")
        kind = type(getattr(OPTIONS, snake_case(name)))
        options, warnings = apply_settings(self.session.options, {name: kind(value)})
        assert not warnings
        self.completer.set_options(options)

    async def do_close(self, rest: str) -> None:
        self.completer.document_closed("file:///a")

    async def do_same(self, rest: str) -> None:
        assert self.ids[-1] == self.ids[-2]

    async def do_other(self, rest: str) -> None:
        assert self.ids[-1] != self.ids[-2]

    async def do_start(self, typing: str) -> None:
        await self.do_type(typing.removeprefix("typing "))
        older, self.open_task = self.open_task, self.ask()
        if older is not None:
            assert (await older).is_superseded
        await asyncio.sleep(0)

    async def do_say(self, count: str) -> None:
        n_said = self.engine.n_said + int(count)
        self.engine.allow(int(count))
        await until(lambda: self.engine.n_said >= n_said)
        await asyncio.sleep(0)

    async def do_finish(self, rest: str) -> None:
        self.engine.is_open = True
        await until(lambda: self.completer.is_idle)

    async def do_cancel(self, rest: str) -> None:
        assert self.open_task is not None
        self.open_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.open_task
        self.open_task = None
        await until(lambda: self.completer.is_idle)


def script(session: Session, start: str) -> Callable[[EngineRequest], list[TextDelta]]:
    """Return a model that says its text after any beginning of it, and `other` after all else."""
    logprob = math.log(session.probability)

    def said(request: EngineRequest) -> list[TextDelta]:
        models = [session.model, *session.others]
        whole = start + models[min(request.candidate, len(models) - 1)]
        rest = whole[len(request.prefix) :] if whole.startswith(request.prefix) else "other"
        pieces = re.findall(r"\n|[ \t]*\w+|[ \t]*[^\w\n]", rest)
        return [TextDelta(text=piece, logprob=logprob) for piece in pieces]

    return said


@pytest.mark.parametrize("session", sessions(), ids=lambda session: session.name)
async def test_each_answer_comes_from_where_the_table_says(session: Session) -> None:
    before, _, after = session.text.replace("\r\n", "\n").partition("$0")
    engine = FakeEngine(script(session, before), is_gated=session.is_gated)
    plugins, clock = FakePlugins(), ManualClock()
    plugins.provide("engines", "fake", engine.as_plugin())
    completer = Completer(session.options, plugins, clock=clock, on_status=lambda status: None)
    completer.start()
    await completer.wait_ready()
    editor = Editor(session, completer, engine, clock, before, after)
    for event in session.events:
        action, arrow, expected = event.partition(" ->")
        await editor.do(action)
        if arrow:
            source, _, text = expected.strip().partition(": ")
            trigger = "invoked" if action == "invoke" else "automatic"
            await editor.expect(source, text, trigger)
    await completer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_table_is_large_and_in_many_languages() -> None:
    rows = sessions()
    assert len(rows) >= 60
    assert len({row.name for row in rows}) == len(rows)
    by_language = Counter(row.language for row in rows)
    for language in ("python", "typescript", "go", "c", "html", "markdown", "yaml"):
        assert by_language[language] >= 5, language
    texts = [row.text + row.model + "".join(row.events) for row in rows]
    for what in ("\r\n", "\t", "pair "):
        assert sum(what in text for text in texts) >= 5, repr(what)
    assert sum(any(ord(c) > 0xFFFF for c in text) for text in texts) >= 5
