"""Neovim, the plugin in it, and a server that obeys the test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.neovim.editor import Editor, StartEditor, start_neovim
from tests.e2e.neovim.scripted_server import ScriptedServer

REPOSITORY = Path(__file__).parents[3]


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
def start_editor(nvim_program: str, tmp_path: Path) -> Iterator[StartEditor]:
    editors: list[Editor] = []

    def start(path: str = "", **options: Any) -> Editor:
        editors.append(start_neovim(nvim_program, tmp_path, path, **options))
        return editors[-1]

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
