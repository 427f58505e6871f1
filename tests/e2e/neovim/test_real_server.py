"""The plugin and the real server with the embedded model, on a Python file as people write them.

What the model proposes is its own affair; these tests hold what the two make of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.neovim.editor import TIMEOUT_S, Editor, StartEditor, start_neovim
from tests.e2e.neovim.picture import svg
from tests.e2e.neovim.screen import Frame

pytestmark = pytest.mark.e2e

PICTURES = os.environ.get("FORETYPE_PICTURES")
"""A folder to put pictures of the screen into, as in `docs/images`."""

SOURCE = '''"""A queue of jobs."""

from __future__ import annotations


class Queue:
    """Jobs in the order in which they came."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def pop(self) -> int:
        if not self.items:
            raise IndexError("pop from an empty queue")
        return self.items.pop()

'''


HEADERS = [
    f"def {name}(self, item: {kind})"
    for kind in ("int", "str", "float", "bytes", "object")
    for name in ("push", "put", "add", "append")
]
COMMAND = f"vim.lsp.config('foretype', {{ cmd = {{ '{sys.executable}', '-P', '-m', 'server' }} }})"


@pytest.fixture(scope="module")
def shared_editor(nvim_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """One Neovim and one server for all tests that leave them alive."""
    folder = tmp_path_factory.mktemp("editor")
    (folder / "jobs.py").write_text(SOURCE)
    with closing(
        start_neovim(nvim_program, folder, str(folder / "jobs.py"), before=COMMAND, rows=48)
    ) as editor:
        wait_for_status(editor, "ready")
        yield editor


@pytest.fixture
def editor(shared_editor: Editor) -> Editor:
    """Neovim at the end of a Python file as it was at first."""
    shared_editor.press("<Esc>")
    shared_editor.command("silent! edit! #1 | edit!")
    shared_editor.press("Go<Esc>")
    return shared_editor


@pytest.fixture
def own_editor(start_editor: StartEditor, tmp_path: Path) -> Editor:
    """A Neovim and a server that the test may end; wide enough for any message."""
    (tmp_path / "jobs.py").write_text(SOURCE)
    editor = start_editor(str(tmp_path / "jobs.py"), before=COMMAND, columns=250)
    wait_for_status(editor, "ready")
    editor.press("Go<Esc>")
    return editor


def wait_for_status(editor: Editor, state: str) -> None:
    editor.wait_until(
        lambda: editor.lua("return require('foretype').status()") == f"foretype: {state}",
        f"status {state}",
    )


def server_status(editor: Editor) -> dict[str, Any]:
    """What `foretype/status` answers now."""
    return editor.lua(
        """local client = vim.lsp.get_clients({ name = 'foretype' })[1]
        return client:request_sync('foretype/status', vim.empty_dict(), 10000).result"""
    )


def server_process(editor: Editor) -> psutil.Process:
    """The server that Neovim started."""
    (process,) = [
        child
        for child in psutil.Process(editor.pid).children(recursive=True)
        if "server" in child.cmdline()
    ]
    return process


def wait_for_some_ghost(editor: Editor) -> str:
    """Wait until the ghost text is whole, and return it."""
    editor.wait_until(lambda: editor.look().ghost, "ghost text")
    editor.wait_until(
        lambda: (
            not editor.lua("return next(vim.lsp.get_clients({ name = 'foretype' })[1].requests)")
        ),
        "the whole answer",
    )
    server_status(editor)  # Neovim knows of an answer before it has handled what came earlier.
    editor.command("redraw")
    return editor.look().ghost


def test_ghost_text_grows_without_a_blank_frame_and_is_accepted(editor: Editor) -> None:
    """Of several completions: a quick server or a busy editor shows one of them only whole."""
    most: list[Frame] = []
    for header in HEADERS:
        editor.command("silent! edit!")
        editor.press("Go<Esc>")
        n_frames = len(editor.screen.frames)
        editor.press(f"i    {header}")
        whole = wait_for_some_ghost(editor)
        drawn = editor.screen.frames[n_frames:]
        first = next(i for i, frame in enumerate(drawn) if frame.ghost)
        growing = [now for before, now in pairwise(drawn[first - 1 :]) if now.ghost != before.ghost]
        assert all(after.ghost.startswith(before.ghost) for before, after in pairwise(growing))
        most = max(most, growing, key=len)
        before = "\n".join(editor.lines)
        editor.press("<Tab>")
        editor.wait_until(lambda text=before: "\n".join(editor.lines) != text, "acceptance")
        accepted = "\n".join(editor.lines).removeprefix(before)
        assert accepted.removeprefix("\n") == whole  # An empty line has no cells.
        editor.press("<Esc>")
    assert len(most) >= 2, [frame.ghost for frame in most]
    if PICTURES:
        for frame in most:
            frame.cells = frame.cells[:24]  # What follows is empty.
        picture = svg(most, editor.screen.colors, "Ghost text growing in Neovim, slowed down")
        Path(PICTURES, "neovim.svg").write_text(picture)
        Path(PICTURES, "neovim.txt").write_text("\n".join(most[-1].lines) + "\n")


def test_typing_along_asks_the_server_nothing(editor: Editor) -> None:
    editor.press("i    def __len__(self)")
    whole = wait_for_some_ghost(editor)
    n_requests = server_status(editor)["counters"]["requests"]
    n_frames = len(editor.screen.frames)
    editor.type(whole[:4])
    editor.wait_for_ghost(whole[4:])
    assert "" not in editor.ghosts_since(n_frames)
    assert server_status(editor)["counters"]["requests"] == n_requests


def test_text_that_is_typed_instead_replaces_the_ghost_text(editor: Editor) -> None:
    editor.press("i    def __len__(self)")
    whole = wait_for_some_ghost(editor)
    editor.press(" #")
    editor.wait_until(lambda: editor.look().ghost != whole, "another text or none")
    assert editor.lines[-1] == "    def __len__(self) #"


def test_words_and_lines_are_accepted_and_counted(editor: Editor) -> None:
    editor.press("i    def __len__(self)")
    whole = wait_for_some_ghost(editor)
    n_lines = len(editor.lines)
    editor.press("<M-w>")
    editor.wait_until(lambda: editor.lines[-1] != "    def __len__(self)", "a word")
    word = editor.lines[-1].removeprefix("    def __len__(self)")
    assert whole.startswith(word)
    editor.wait_for_ghost(whole[len(word) :])
    editor.press("<M-l>")
    first_line = whole.split("\n")[0]
    editor.wait_until(
        lambda: editor.lines[n_lines - 1] == "    def __len__(self)" + first_line, "the line"
    )
    counters = server_status(editor)["counters"]
    assert counters["shown"] >= 1
    assert counters["partiallyAccepted"] >= 1


def test_candidates_are_cycled(editor: Editor) -> None:
    editor.press("i    items = ")  # Where more than one thing may follow.
    first = wait_for_some_ghost(editor)
    editor.press("<M-n>")
    editor.wait_until(lambda: editor.look().ghost not in ("", first), "another candidate")
    editor.press("<M-p>")
    editor.wait_for_ghost(first)


def test_characters_of_several_bytes_keep_their_places(editor: Editor) -> None:
    editor.press("i    # größe 日本 🐍<CR>def __len__(self)")
    editor.wait_until(lambda: editor.lines[-1].endswith("def __len__(self)"), "the keys")
    whole = wait_for_some_ghost(editor)
    before = "\n".join(editor.lines)
    editor.press("<Tab>")
    editor.wait_until(lambda: "\n".join(editor.lines) != before, "the accepted text")
    assert "\n".join(editor.lines) == before + whole


def test_ghost_text_goes_on_leave(editor: Editor) -> None:
    editor.press("i    def __len__(self)")
    wait_for_some_ghost(editor)
    editor.press("<Esc>")
    editor.wait_for_ghost("")
    assert editor.lines[-1] == "    def __len__(self)"


def test_two_buffers_share_a_server(editor: Editor, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("import os\n\n\n")
    editor.command(f"edit {tmp_path / 'other.py'}")
    editor.press("Giif __name__ == ")
    whole = wait_for_some_ghost(editor)
    editor.press("<Tab>")
    editor.wait_until(lambda: "if __name__ == " + whole in "\n".join(editor.lines), "acceptance")
    assert editor.lua("return #vim.lsp.get_clients({ name = 'foretype' })") == 1


def test_a_killed_server_is_missed_silently_and_restarts(editor: Editor) -> None:
    editor.command("set cmdheight=4")  # Room for Neovim's own message, or it waits for a key.
    server_process(editor).send_signal(signal.SIGKILL)
    editor.wait_until(
        lambda: editor.lua("return require('foretype').status()") == "", "the end of the server"
    )
    n_messages = len(editor.messages.splitlines())
    editor.press("i    def __len__(self)<Esc>")
    assert len(editor.messages.splitlines()) == n_messages
    editor.command("Foretype restart")
    wait_for_status(editor, "ready")
    editor.press("a")
    wait_for_some_ghost(editor)
    editor.command("set cmdheight=1")


def test_the_server_ends_with_the_editor(own_editor: Editor) -> None:
    process = server_process(own_editor)
    psutil.Process(own_editor.pid).send_signal(signal.SIGKILL)
    assert process.wait(timeout=TIMEOUT_S) is not None or not process.is_running()


def test_health_is_good(editor: Editor) -> None:
    editor.command("checkhealth foretype")
    report = "\n".join(editor.lines)
    assert "completes inline: true; positions in utf-8" in report
    assert "status: ready, foretype-5m" in report
    assert "WARNING" not in report
    assert "ERROR" not in report
