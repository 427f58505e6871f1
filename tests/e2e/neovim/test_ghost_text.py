"""Ghost text as a user sees it, with a server that says exactly what the test wants."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.neovim.editor import Editor
from tests.e2e.neovim.scripted_server import ScriptedServer

pytestmark = pytest.mark.e2e

BODY = "(a, b):\n    return a + b"


def offer(editor: Editor, server: ScriptedServer, typed: str, text: str) -> None:
    """Type, be asked, answer, and see the ghost text."""
    editor.press(f"i{typed}")
    asked = server.next_request()
    server.answer(asked, text)
    editor.wait_for_ghost(text)


def test_growing_text_is_shown_without_a_blank_frame(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("idef add")
    asked = server.next_request()
    states = ["(a", "(a, b)", "(a, b):", "(a, b):\n    return a", BODY]
    server.grow(asked, states[0])
    editor.wait_for_ghost(states[0])
    n_frames = len(editor.screen.frames) - 1
    for text in states[1:]:
        server.grow(asked, text)
        editor.wait_for_ghost(text)
    server.answer(asked)
    assert editor.ghosts_since(n_frames) == states


def test_the_request_is_of_the_text_on_the_screen(editor: Editor, server: ScriptedServer) -> None:
    editor.press("ix = 1<CR>naïve = '🐍'")
    asked = server.next_request()
    uri = asked.params["textDocument"]["uri"]
    assert server.documents[uri] == "x = 1\nnaïve = '🐍'\n"
    assert asked.params["position"] == {"line": 1, "character": 12}  # 🐍 is two units of UTF-16.
    assert asked.trigger == 2


def test_the_cursor_stays_in_front_of_the_ghost_text(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "def add", BODY)
    assert editor.look().cursor == (0, 7)
    assert editor.look().lines[:3] == ["def add(a, b):", "    return a + b", "~"]


def test_typing_along_asks_nothing_and_shows_the_rest(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "def add", BODY)
    n_frames = len(editor.screen.frames) - 1
    editor.type("(a,")
    editor.wait_for_ghost(" b):\n    return a + b")
    assert editor.ghosts_since(n_frames) == [BODY, BODY[1:], BODY[2:], BODY[3:]]
    editor.type(" b):\n")  # Neovim indents the new line by itself.
    editor.wait_for_ghost("return a + b")
    assert editor.lines == ["def add(a, b):", "    "]
    assert not server.is_asked


def test_text_goes_on_growing_while_it_is_typed_along(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("idef add")
    asked = server.next_request()
    server.grow(asked, "(a")
    editor.wait_for_ghost("(a")
    editor.type("(")
    server.grow(asked, "(a, b):")
    editor.wait_for_ghost("a, b):")
    assert server.all("$/cancelRequest") == []


def test_typing_something_else_cancels_and_asks_anew(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("idef add")
    asked = server.next_request()
    server.grow(asked, "(a")
    editor.wait_for_ghost("(a")
    editor.type("_")
    assert server.next_request().params["position"]["character"] == 8
    assert server.wait_for("$/cancelRequest") == {"id": asked.id}
    server.grow(asked, "(a, b)")  # Too late.
    server.reply(asked.id, None)
    editor.wait_for_ghost("")


def test_deleting_asks_anew(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "def add", BODY)
    editor.press("<BS>")
    assert server.next_request().params["position"]["character"] == 6
    editor.wait_for_ghost("")


def test_moving_the_cursor_hides_the_text_and_asks_nothing(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "def add", BODY)
    editor.press("<Left>")
    editor.wait_for_ghost("")
    assert not server.is_asked


def test_a_late_answer_does_not_replace_a_newer_one(editor: Editor, server: ScriptedServer) -> None:
    editor.press("ia")
    first = server.next_request()
    editor.press("b")
    second = server.next_request()
    server.answer(second, "newer")
    editor.wait_for_ghost("newer")
    server.answer(first, "older")
    server.notify("foretype/status", {"state": "busy", "message": ""})
    editor.wait_until(
        lambda: editor.lua("return require('foretype').status()") == "foretype: busy", "the status"
    )
    assert editor.look().ghost == "newer"


@pytest.mark.parametrize("answer", [None, [], {"items": []}])
def test_nothing_to_offer_shows_nothing_and_says_nothing(
    editor: Editor, server: ScriptedServer, answer: Any
) -> None:
    editor.press("ix")
    asked = server.next_request()
    server.reply(asked.id, answer)
    editor.press("y")
    server.answer(server.next_request(), "z")
    editor.wait_for_ghost("z")
    assert editor.messages == ""


def test_tab_accepts_and_tells_the_server(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "def add", BODY)
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand") == {
        "command": "foretype.accepted",
        "arguments": ["1"],
    }
    assert editor.lines == ["def add(a, b):", "    return a + b"]
    assert editor.look().cursor == (1, 16)
    asked = server.next_request()  # What comes next is asked for at once.
    assert asked.params["position"] == {"line": 1, "character": 16}
    assert (
        server.documents[asked.params["textDocument"]["uri"]]
        == "def add(a, b):\n    return a + b\n"
    )


def test_a_shown_candidate_is_reported_once(editor: Editor, server: ScriptedServer) -> None:
    editor.press("idef add")
    asked = server.next_request()
    for text in ("(a", "(a, b)"):
        server.grow(asked, text)
        editor.wait_for_ghost(text)
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    assert [
        shown["item"]["data"]["id"] for shown in server.all("textDocument/didShowCompletion")
    ] == ["1"]


def test_words_are_accepted_one_by_one(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "def add", "(größe, b):\n    return 🐍")
    n_frames = len(editor.screen.frames) - 1
    seen = []
    for n in range(1, 8):
        editor.press("<M-w>")
        if n < 7:
            server.wait_for("textDocument/didPartiallyAcceptCompletion", n)
        seen.append("\n".join(editor.lines)[len("def add") :])
    assert seen == [
        "(",
        "(größe",
        "(größe,",
        "(größe, b",
        "(größe, b):",
        "(größe, b):\n    return",
        "(größe, b):\n    return 🐍",
    ]
    partial = server.all("textDocument/didPartiallyAcceptCompletion")
    assert [each["acceptedLength"] for each in partial] == [1, 6, 7, 9, 11, 22]
    server.wait_for("workspace/executeCommand")
    ghosts = [ghost for ghost in editor.ghosts_since(n_frames) if ghost]
    assert ghosts[:3] == [
        "(größe, b):\n    return 🐍",
        "größe, b):\n    return 🐍",
        ", b):\n    return 🐍",
    ]
    first_lines = {frame.lines[0] for frame in editor.screen.frames[n_frames:]}
    assert first_lines == {"def add(größe, b):"}  # Nothing is seen twice in between.


def test_lines_are_accepted_one_by_one(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "if x", ":\n    a()\n    b()")
    editor.press("<M-l>")
    editor.wait_for_ghost("\n    a()\n    b()".lstrip("\n"))
    editor.press("<M-l>")
    editor.wait_for_ghost("    b()")
    assert editor.lines == ["if x:", "    a()"]
    editor.press("<M-l>")
    server.wait_for("workspace/executeCommand")
    assert editor.lines == ["if x:", "    a()", "    b()"]


def test_keys_mean_what_they_meant_while_nothing_is_shown(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.lua("vim.keymap.set('i', '<Tab>', 'MINE', { buffer = 0 })")
    editor.press("i<Tab>")
    assert editor.lines == ["MINE"]
    server.answer(server.next_request(), "text")
    editor.wait_for_ghost("text")
    editor.press("<Tab>")
    assert editor.lines == ["MINEtext"]
    editor.press("<Tab>")
    assert editor.lines == ["MINEtextMINE"]


def test_next_and_previous_ask_for_candidates_and_cycle(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "x = ", "1")
    editor.press("<M-n>")
    asked = server.next_request()
    assert asked.trigger == 1
    assert "partialResultToken" not in asked.params
    assert editor.look().ghost == "1"  # Kept until the others are there.
    server.answer(asked, "1", "22", "333")
    for keys, text in (("", "22"), ("<M-n>", "333"), ("<M-n>", "1"), ("<M-p>", "333")):
        editor.press(keys)
        editor.wait_for_ghost(text)
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")["arguments"] == ["3"]
    assert editor.lines == ["x = 333"]


def test_a_candidate_can_be_asked_for_where_none_is_shown(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("ix")
    server.answer(server.next_request())
    editor.press("<M-n>")
    asked = server.next_request()
    assert asked.trigger == 1
    server.answer(asked, "yz", "zz")
    editor.wait_for_ghost("yz")


def test_a_dismissed_text_stays_away_until_the_next_key(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "x = ", "1")
    editor.press("<C-]>")
    editor.wait_for_ghost("")
    assert editor.lines == ["x = "]
    assert not server.is_asked
    editor.press("2")
    server.answer(server.next_request(), "3")
    editor.wait_for_ghost("3")


@pytest.mark.parametrize("leave", ["<Esc>", "<C-c>", "<C-o>:split<CR>", "<Cmd>enew!<CR>"])
def test_ghost_text_goes_on_leave(editor: Editor, server: ScriptedServer, leave: Any) -> None:
    offer(editor, server, "x = ", "1\n2")
    editor.press(leave)
    editor.wait_for_ghost("")


def test_leaving_cancels_what_is_awaited(editor: Editor, server: ScriptedServer) -> None:
    editor.press("ix")
    asked = server.next_request()
    editor.press("<Esc>")
    assert server.wait_for("$/cancelRequest") == {"id": asked.id}
    server.grow(asked, "late")
    editor.press("o")
    server.answer(server.next_request(), "y")
    editor.wait_for_ghost("y")


def test_entering_insert_mode_asks(editor: Editor, server: ScriptedServer) -> None:
    editor.press("ix")
    server.next_request()
    editor.press("<Esc>")
    editor.press("A")
    assert server.next_request().params["position"] == {"line": 0, "character": 1}


def test_multi_byte_text_before_and_in_the_candidate(
    editor: Editor, server: ScriptedServer
) -> None:
    offer(editor, server, "s = '日本", "語🐍' # ü\nprint(s)")
    editor.type("語")
    editor.wait_for_ghost("🐍' # ü\nprint(s)")
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")
    assert editor.lines == ["s = '日本語🐍' # ü", "print(s)"]


def test_text_after_the_cursor_is_replaced_as_far_as_the_item_says(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("if(ü)x<Left><Left>")
    asked = server.next_request()
    while server.is_asked:
        asked = server.next_request()
    editor.press("<BS>")
    asked = server.next_request()
    server.reply(asked.id, [server.item(asked, "a, b)", n_replaced=1)])
    editor.wait_for_ghost("a, b)")
    assert editor.look().lines[0] == "f(a, b)x"
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")
    assert editor.lines == ["f(a, b)x"]


def test_text_after_the_cursor_is_shown_where_it_will_be(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.press("if()<Left>")
    asked = server.next_request()
    editor.press("a")
    asked = server.next_request()
    server.answer(asked, ",\n  b")
    editor.wait_for_ghost(",\n  b")
    assert editor.look().lines[:3] == ["f(a,", "  b)", "~"]
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")
    assert editor.lines == ["f(a,", "  b)"]


def test_tabs_take_the_columns_of_the_buffer(editor: Editor, server: ScriptedServer) -> None:
    editor.command("setlocal noexpandtab tabstop=4 listchars=")
    editor.press("iab")
    server.answer(server.next_request(), "\tc\n\td")
    editor.wait_for_ghost("  c\n    d")
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")
    assert editor.lines == ["ab\tc", "\td"]


def test_files_with_crlf_get_no_carriage_return(editor: Editor, server: ScriptedServer) -> None:
    editor.command("setlocal fileformat=dos")
    offer_text = ":\r\n    a()\r\n    b()"
    editor.press("iif x")
    server.answer(server.next_request(), offer_text)
    editor.wait_for_ghost(":\n    a()\n    b()")
    editor.press("<M-l><M-l>")
    partial = server.wait_for("textDocument/didPartiallyAcceptCompletion", 2)
    assert partial["acceptedLength"] == len(":\r\n    a()")
    assert editor.lines == ["if x:", "    a()"]
    editor.press("<Tab>")
    assert server.wait_for("workspace/executeCommand")
    assert editor.lines == ["if x:", "    a()", "    b()"]


def test_folds_stay_as_they_are(editor: Editor, server: ScriptedServer) -> None:
    editor.call("nvim_buf_set_lines", 0, 0, -1, True, ["a", "  b", "  c", "d", "  e", "  f"])
    editor.command("setlocal foldmethod=indent shiftwidth=2 foldlevel=0")
    editor.press("ggA")
    server.answer(server.next_request(), "1\n  b1")
    editor.wait_for_ghost("1\n  b1")
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    assert editor.lines == ["a1", "  b1", "  b", "  c", "d", "  e", "  f"]
    assert editor.lua("return vim.fn.foldclosed('.')") == -1
    assert editor.lua("return vim.fn.foldclosed(6)") == 6


def test_two_windows_on_one_buffer(editor: Editor, server: ScriptedServer) -> None:
    editor.call("nvim_buf_set_lines", 0, 0, -1, True, ["one", "two"])
    editor.command("vsplit")
    editor.press("ggA")
    server.answer(server.next_request(), " text")
    editor.wait_until(lambda: " text" in editor.look().ghost, "ghost text")
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    assert editor.lines == ["one text", "two"]
    editor.press("<Cmd>wincmd p<CR>")
    editor.wait_for_ghost("")


def test_the_dot_command_repeats_what_was_accepted(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "x = ", "1 + 2")
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    editor.press(";<Esc>.")
    assert editor.lines == ["x = 1 + 2x = 1 + 2;;"]


def test_undo_takes_back_the_whole_insertion(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "x = ", "1\ny = 2")
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    editor.press("<CR>z<Esc>u")
    assert editor.lines != ["x = 1", "y = 2", "z"]
    editor.press("9u")
    assert editor.lines == [""]


def test_a_macro_records_and_plays_keys_only(editor: Editor, server: ScriptedServer) -> None:
    editor.press("qqix = 1<Esc>q")
    editor.press("o<Esc>@q")
    assert editor.lines == ["x = 1", "x = 1"]
    editor.press("qri<Tab><Esc>q")
    assert editor.lua("return vim.fn.getreg('r')") == "i\t\x1b"


def test_an_open_menu_keeps_its_keys(editor: Editor, server: ScriptedServer) -> None:
    editor.command("set completeopt=menu")
    editor.call("nvim_buf_set_lines", 0, 0, -1, True, ["alpha", "alphabet", ""])
    editor.press("Gia")
    server.next_request()
    editor.press("<C-n>")
    editor.wait_until(lambda: editor.lua("return vim.fn.pumvisible()") == 1, "the menu")
    assert editor.look().ghost == ""
    assert not server.is_asked
    editor.press("<C-y>")
    assert editor.lines[2] in ("alpha", "alphabet")
    server.answer(server.next_request(), "()")
    editor.wait_for_ghost("()")


def test_two_buffers_have_their_own_text(editor: Editor, server: ScriptedServer) -> None:
    offer(editor, server, "one", " first")
    other = editor.lua("return vim.fn.expand('%:h')") + "/other.py"
    editor.press(f"<Esc><Cmd>edit {other}<CR>")
    server.wait_for("textDocument/didOpen", 2)
    editor.press("itwo")
    asked = server.next_request()
    assert asked.params["textDocument"]["uri"].endswith("other.py")
    server.answer(asked, " second")
    editor.wait_for_ghost(" second")
    editor.press("<Tab>")
    server.wait_for("workspace/executeCommand")
    assert editor.lines == ["two second"]
    editor.command("bprevious")
    assert editor.lines == ["one"]


def test_a_bracket_that_is_highlighted_does_not_colour_the_ghost_text(
    editor: Editor, server: ScriptedServer
) -> None:
    """Combined with what is under it, text after a bracket took the colour of `MatchParen`."""
    editor.command("set cursorline")
    offer(editor, server, "def add()", " -> None:\n    pass")
