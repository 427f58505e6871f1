"""Work is shown from the moment that the client agrees, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from server.lsp.progress import WorkProgress


class Editor:
    """A client that agrees, or doesn't, when it is let."""

    def __init__(self, *, agrees: bool) -> None:
        self.shown: list[Any] = []
        self.may_answer = asyncio.Event()
        self._agrees = agrees

    async def ask(self, method: str, params: Mapping[str, Any]) -> bool:
        assert (method, params) == ("window/workDoneProgress/create", {"token": "work"})
        await self.may_answer.wait()
        return self._agrees

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        assert (method, params["token"]) == ("$/progress", "work")
        self.shown.append(params["value"])


async def test_a_client_that_agrees_sees_how_far_it_is() -> None:
    editor = Editor(agrees=True)
    editor.may_answer.set()
    progress = WorkProgress(editor.tell, "work")
    await progress.begin(editor.ask, "Reading")
    progress.report("2 files")
    progress.end("done")
    assert editor.shown == [
        {"kind": "begin", "title": "Reading"},
        {"kind": "report", "message": "2 files"},
        {"kind": "end", "message": "done"},
    ]


async def test_percent_is_given_from_the_begin_on() -> None:
    editor = Editor(agrees=True)
    editor.may_answer.set()
    progress = WorkProgress(editor.tell, "work")
    await progress.begin(editor.ask, "Loading", 0)
    progress.report("half of it", 50)
    assert [value["percentage"] for value in editor.shown] == [0, 50]


async def test_work_that_ended_before_the_client_agreed_begins_and_ends() -> None:
    editor = Editor(agrees=True)
    progress = WorkProgress(editor.tell, "work")
    begun = asyncio.ensure_future(progress.begin(editor.ask, "Reading"))
    await asyncio.sleep(0)
    progress.report("2 files")
    progress.end("done")
    assert editor.shown == []
    editor.may_answer.set()
    await begun
    assert [value["kind"] for value in editor.shown] == ["begin", "end"]


async def test_a_client_that_refuses_is_told_nothing() -> None:
    editor = Editor(agrees=False)
    editor.may_answer.set()
    progress = WorkProgress(editor.tell, "work")
    await progress.begin(editor.ask, "Reading")
    progress.end("done")
    assert editor.shown == []
