"""The editor clients stay thin: small, without circles, and without a connection of their own."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CLIENTS = Path(__file__).resolve().parents[1] / "editor-clients"
VSCODE = sorted((CLIENTS / "vscode" / "src").glob("*.ts"))
NEOVIM = sorted((CLIENTS / "neovim").rglob("*.lua"))
NODE_MODULES = {"child_process", "events", "fs/promises", "path", "readline"}
"""What the VS Code client may use of Node: nothing that reaches a network."""


def source_lines(path: Path) -> int:
    """Count lines that are neither blank nor comment."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = (line.strip() for line in text.splitlines())
    return sum(bool(line) and not line.startswith(("//", "--")) for line in lines)


def imports(path: Path) -> list[str]:
    """Return what a TypeScript module imports, types too."""
    return re.findall(r'\bfrom "([^"]+)"', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("sources", "most"), [(VSCODE, 620), (NEOVIM, 360)], ids=["vscode", "nvim"]
)
def test_a_client_is_no_longer_than_it_was(sources: list[Path], most: int) -> None:
    assert 0 < sum(map(source_lines, sources)) <= most


def test_the_modules_of_the_vscode_client_make_no_circle() -> None:
    names = {
        path.stem: [name.removeprefix("./") for name in imports(path) if name.startswith("./")]
        for path in VSCODE
    }
    assert list(TopologicalSorter(names).static_order())[-1] == "extension"


@pytest.mark.parametrize("path", VSCODE, ids=lambda path: path.stem)
def test_the_vscode_client_has_nothing_to_reach_a_network_with(path: Path) -> None:
    for name in imports(path):
        known = name in ("vscode", "vscode-languageclient/node") or name.startswith("./")
        assert known or name.removeprefix("node:") in NODE_MODULES, name
    assert not re.search(r"\b(fetch|TelemetryLogger|require)\b", path.read_text(encoding="utf-8"))
