"""The configuration without a plugin, as the documentation gives it, for Neovim's own client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.neovim.editor import Editor, StartEditor
from tests.e2e.neovim.scripted_server import ScriptedServer

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[3] / "docs" / "editors" / "neovim.md"


@pytest.fixture
def configuration() -> str:
    without_plugin = PAGE.read_text(encoding="utf-8").partition("## Without a plugin")[2]
    block = re.search(r"^```lua\n(.*?)^```$", without_plugin, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]


@pytest.fixture
def core_editor(
    server: ScriptedServer, start_editor: StartEditor, configuration: str, tmp_path: Path
) -> Editor:
    path = tmp_path / "main.py"
    path.write_text("")
    editor = start_editor(
        str(path),
        plugin=False,
        before=f"""
        if not vim.lsp.inline_completion then return end
        {configuration}
        vim.lsp.config('foretype', {{ cmd = vim.lsp.rpc.connect('127.0.0.1', {server.port}) }})""",
    )
    if not editor.lua("return vim.lsp.inline_completion ~= nil"):
        pytest.skip("vim.lsp.inline_completion comes with Neovim 0.12")
    server.wait_for("textDocument/didOpen")
    return editor


def wait_for_lines(editor: Editor, *lines: str) -> None:
    editor.wait_until(lambda: editor.look().lines[: len(lines)] == list(lines), f"{lines}")


def test_the_core_client_gets_one_whole_answer_and_accepts_it(
    core_editor: Editor, server: ScriptedServer
) -> None:
    core_editor.press("idef add")
    asked = server.next_request()
    assert "partialResultToken" not in asked.params
    server.answer(asked, "(a, b):\n    return a + b")
    wait_for_lines(core_editor, "def add(a, b):", "    return a + b", "~")
    core_editor.press("<Tab>")
    core_editor.wait_until(lambda: len(core_editor.lines) == 2, "the accepted text")
    assert core_editor.lines == ["def add(a, b):", "    return a + b"]
    server.wait_for("workspace/executeCommand")


def test_tab_is_a_tab_where_the_core_client_shows_nothing(core_editor: Editor) -> None:
    core_editor.command("setlocal noexpandtab")
    core_editor.press("i<Tab>x")
    assert core_editor.lines == ["\tx"]


def test_the_core_client_cycles_candidates(core_editor: Editor, server: ScriptedServer) -> None:
    core_editor.press("ix = ")
    server.answer(server.next_request(), "1", "2")
    core_editor.wait_until(lambda: core_editor.look().lines[0].startswith("x = 1"), "the first")
    core_editor.press("<M-n>")
    core_editor.wait_until(lambda: core_editor.look().lines[0].startswith("x = 2"), "the second")


def test_null_keeps_what_the_core_client_shows(core_editor: Editor, server: ScriptedServer) -> None:
    """A superseded request is answered with null: an empty list would hide the text."""
    core_editor.press("ix = ")
    server.answer(server.next_request(), "1")
    core_editor.wait_until(lambda: core_editor.look().lines[0] == "x = 1", "ghost text")
    core_editor.press("1")
    server.reply(server.next_request().id, None)
    core_editor.press("<C-g><C-g>")
    assert core_editor.look().lines[0] == "x = 1"
