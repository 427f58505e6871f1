"""Neovim, the plugin in it, and a server that obeys the test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.neovim.editor import Editor, StartEditor
from tests.e2e.neovim.screen import GHOST_COLOR
from tests.e2e.neovim.scripted_server import ScriptedServer

REPOSITORY = Path(__file__).parents[3]
CLIENT = REPOSITORY / "editor-clients" / "neovim"


@pytest.fixture(scope="session")
def nvim_program() -> str:
    found = subprocess.run(
        [REPOSITORY / "scripts" / "install-neovim"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with closing(ScriptedServer()) as server:
        yield server


@pytest.fixture
def start_editor(
    nvim_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartEditor]:
    """Start Neovim with the plugin and a line of Lua that runs before it; ended after the test."""
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NVIM_LOG_FILE", str(tmp_path / "nvim.log"))
    editors: list[Editor] = []

    def start(
        path: str = "", *, before: str = "", plugin: bool = True, columns: int = 80, rows: int = 16
    ) -> Editor:
        # Looking for a Python with pynvim would take seconds at the first Python file.
        (tmp_path / "init.lua").write_text(f"vim.g.loaded_python3_provider = 0\n{before}")
        arguments = ["--cmd", f"luafile {tmp_path / 'init.lua'}"]
        if plugin:
            arguments += ["--cmd", f"set runtimepath^={CLIENT}"]
        arguments += [path] if path else []
        editor = Editor(nvim_program, *arguments, columns=columns, rows=rows)
        editors.append(editor)
        editor.command(f"highlight ForetypeGhost guifg=#{GHOST_COLOR:06x}")
        return editor

    yield start
    for editor in editors:
        editor.close()


@pytest.fixture
def editor(server: ScriptedServer, start_editor: StartEditor, tmp_path: Path) -> Editor:
    """Neovim on an empty Python file, attached to the scripted server."""
    path = tmp_path / "main.py"
    path.write_text("")
    connect = f"cmd = vim.lsp.rpc.connect('127.0.0.1', {server.port})"
    editor = start_editor(str(path), before=f"vim.lsp.config('foretype', {{ {connect} }})")
    server.wait_for("textDocument/didOpen")
    return editor
