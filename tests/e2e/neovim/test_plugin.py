"""What surrounds ghost text: switches, commands, health, help, and a server that goes away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.neovim.editor import Editor, StartEditor
from tests.e2e.neovim.scripted_server import ScriptedServer

pytestmark = pytest.mark.e2e

CLIENT = Path(__file__).parents[3] / "editor-clients" / "neovim"


def offer(editor: Editor, server: ScriptedServer, typed: str, text: str) -> None:
    """Type in Insert mode, answer, and see the ghost text."""
    editor.press(typed)
    server.answer(server.next_request(), text)
    editor.wait_for_ghost(text)


def status_line(editor: Editor) -> str:
    return editor.lua("return require('foretype').status()")


def test_the_server_is_told_what_this_client_can_do(editor: Editor, server: ScriptedServer) -> None:
    initialize = server.wait_for("initialize")
    assert initialize["initializationOptions"] == {"streaming": True, "status": True}


def test_options_of_the_user_are_added_to_ours(
    start_editor: StartEditor, server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "main.py"
    path.write_text("")
    start_editor(
        str(path),
        before=f"""vim.lsp.config('foretype', {{
            cmd = vim.lsp.rpc.connect('127.0.0.1', {server.port}),
            init_options = {{ model = 'mine' }},
            settings = {{ foretype = {{ maxLines = 3 }} }},
        }})""",
    )
    options = server.wait_for("initialize")["initializationOptions"]
    assert options == {"streaming": True, "status": True, "model": "mine"}
    changed = server.wait_for("workspace/didChangeConfiguration")
    assert changed["settings"] == {"foretype": {"maxLines": 3}}


def test_toggle_switches_one_buffer(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "ix", "yz")
    editor.press("<Cmd>Foretype toggle<CR>")
    editor.wait_for_ghost("")
    assert status_line(editor) == "foretype: off"
    editor.press("y")
    editor.press("<Cmd>Foretype toggle<CR>")
    assert server.next_request().params["position"]["character"] == 2
    assert not server.is_asked


def test_toggle_global_switches_all_buffers(editor: Editor, server: ScriptedServer) -> None:
    editor.command("Foretype toggle global")
    editor.command("edit other.py")
    server.wait_for("textDocument/didOpen", 2)
    editor.press("ixyz<Esc>")
    assert status_line(editor) == "foretype: off"
    editor.command("Foretype toggle global")
    offer(editor, server, "A", "!")
    assert server.all("textDocument/inlineCompletion")[0]["position"]["character"] == 3


def test_the_status_line_follows_the_server(editor: Editor, server: ScriptedServer) -> None:
    editor.command("set laststatus=2 statusline=%{v:lua.require'foretype'.status()}")
    assert editor.look().lines[-2] == "foretype: starting"
    server.notify("foretype/status", {"state": "ready", "message": ""})
    editor.wait_until(lambda: editor.look().lines[-2] == "foretype: ready", "the status")


def test_the_status_command_says_what_runs(editor: Editor) -> None:
    editor.command("Foretype status")
    editor.wait_until(lambda: "foretype: ready, scripted" in editor.messages, "the status")


def test_an_unknown_command_is_named(editor: Editor) -> None:
    with pytest.raises(RuntimeError, match="no command fly"):
        editor.command("Foretype fly")
    completed = editor.call("nvim_call_function", "getcompletion", ["Foretype ", "cmdline"])
    assert sorted(completed) == ["global", "log", "restart", "status", "toggle"]


def test_the_log_opens(editor: Editor) -> None:
    editor.command("Foretype log")
    assert editor.lua("return vim.fn.expand('%:t')") == "lsp.log"


def test_a_server_that_dies_is_missed_silently_and_can_be_restarted(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "ix", " = 1")
    server.hang_up()
    editor.wait_until(lambda: status_line(editor) == "", "the end of the server")
    n_messages = len(editor.messages.splitlines())
    editor.type("abcdefgh")
    assert len(editor.messages.splitlines()) == n_messages
    assert n_messages <= 1  # Neovim itself tells of the exit.
    editor.press("<Esc>")
    editor.command("Foretype restart")
    server.wait_for("textDocument/didOpen", 2)
    offer(editor, server, "A", " = 2")


def test_restart_replaces_a_server_that_runs(editor: Editor, server: ScriptedServer) -> None:
    editor.command("Foretype restart")
    server.wait_for("initialize", 2)
    server.wait_for("textDocument/didOpen", 2)
    assert editor.lua("return #vim.lsp.get_clients({ name = 'foretype' })") == 1


def test_errors_of_the_server_are_logged_and_not_shown(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("ix")
    server.fail(server.next_request(), "broken")
    offer(editor, server, "y", "z")
    assert editor.messages == ""
    log = Path(editor.lua("return vim.lsp.log.get_filename()"))
    editor.wait_until(lambda: "broken" in log.read_text(), "the log")


def test_keys_can_be_changed_or_left_out(
    start_editor: StartEditor, server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "main.py"
    path.write_text("")
    editor = start_editor(
        str(path),
        before=f"""
        vim.lsp.config('foretype', {{ cmd = vim.lsp.rpc.connect('127.0.0.1', {server.port}) }})
        vim.g.foretype_keys = {{ accept = '<C-f>', next = false, dismiss = false }}""",
    )
    server.wait_for("textDocument/didOpen")
    offer(editor, server, "ix", " = 1")
    mapped = "return vim.tbl_map(function(m) return m.lhs end, vim.api.nvim_buf_get_keymap(0, 'i'))"
    assert sorted(editor.lua(mapped)) == ["<C-F>", "<M-l>", "<M-w>"]
    editor.press("<C-f>")
    server.wait_for("workspace/executeCommand")
    assert editor.lines == ["x = 1"]
    assert editor.lua(mapped) == []


def test_nothing_is_painted_twice_where_the_core_client_is_on(
    editor: Editor, server: ScriptedServer
) -> None:
    if not editor.lua("return vim.lsp.inline_completion ~= nil"):
        pytest.skip("vim.lsp.inline_completion comes with Neovim 0.12")
    editor.command("lua vim.lsp.inline_completion.enable()")
    editor.press("ix")
    asked = server.next_request()  # The core's: without a token.
    assert "partialResultToken" not in asked.params
    server.answer(asked, " = 1")
    editor.wait_until(lambda: editor.look().lines[0] == "x = 1", "the core's ghost text")
    assert editor.look().ghost == ""


def test_health_names_the_server_and_what_it_can(editor: Editor) -> None:
    editor.command("checkhealth foretype")
    report = "\n".join(editor.lines)
    assert "server: scripted 1" in report
    assert "completes inline: true; positions in utf-16" in report
    assert "status: ready, scripted" in report
    assert "WARNING" not in report
    assert "ERROR" not in report


def test_health_says_what_is_wrong(start_editor: StartEditor, tmp_path: Path) -> None:
    editor = start_editor(
        before="""vim.lsp.config('foretype', { cmd = { '/no/such/server' } })
        vim.g.foretype_keys = { accpet = '<C-f>' }"""
    )
    editor.command("checkhealth foretype")
    report = "\n".join(editor.lines)
    assert "ERROR server command: /no/such/server" in report
    assert "unknown action in g:foretype_keys: accpet" in report
    assert "WARNING no server runs" in report


def test_the_help_has_all_its_tags(start_editor: StartEditor, tmp_path: Path) -> None:
    shutil.copytree(CLIENT / "doc", tmp_path / "plugin" / "doc")
    editor = start_editor(before=f"vim.opt.runtimepath:prepend('{tmp_path}/plugin')", plugin=False)
    editor.command(f"helptags {tmp_path}/plugin/doc")
    tags = (tmp_path / "plugin" / "doc" / "tags").read_text().split("\n")
    names = {tag.split("\t")[0] for tag in tags if tag}
    assert {
        "foretype",
        "foretype-keys",
        "foretype-server",
        ":Foretype",
        "hl-ForetypeGhost",
    } <= names
    for name in names:
        editor.command(f"help {name}")
        assert editor.lua("return vim.bo.filetype") == "help"


def test_the_program_is_found_on_path_before_the_clone(
    start_editor: StartEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "foretype-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    editor = start_editor()
    command = "return require('foretype.config').server_command()"
    assert editor.lua(command) == ["foretype-server"]
    program.unlink()
    assert editor.lua(command) != ["foretype-server"]


def test_the_server_of_the_clone_is_found_through_a_link(
    start_editor: StartEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(CLIENT, clone / "editor-clients" / "neovim")
    program = clone / ".venv" / "bin" / "foretype-server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "package").symlink_to(clone / "editor-clients" / "neovim")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    editor = start_editor(
        plugin=False, before=f"vim.opt.runtimepath:prepend('{tmp_path / 'package'}')"
    )
    command = "return require('foretype.config').server_command()"
    assert editor.lua(command) == [str(program)]
