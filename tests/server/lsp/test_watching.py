"""What a client is asked to watch, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol import types

from server.lsp.watching import file_path, folder_paths, registration, split_changes


def test_changes_are_told_of_known_files_and_comings_and_goings_of_all() -> None:
    options = registration([".py", ".go"], ["Makefile"])["registerOptions"]
    assert options["watchers"] == [
        {"globPattern": "**/*", "kind": 1 | 4},
        {"globPattern": "**/*.{go,py}", "kind": 2},
        {"globPattern": "**/Makefile", "kind": 2},
    ]


def test_what_is_gone_is_told_apart_from_what_is_new_or_changed() -> None:
    kinds = {"new": 1, "changed": 2, "gone": 3}
    events = [
        types.FileEvent(uri=f"file:///w/{name}.py", type=types.FileChangeType(kind))
        for name, kind in kinds.items()
    ]
    events.append(types.FileEvent(uri="untitled:x", type=types.FileChangeType.Deleted))
    changed, deleted = split_changes(events)
    assert changed == [Path("/w/new.py"), Path("/w/changed.py")]
    assert deleted == [Path("/w/gone.py")]


@pytest.mark.parametrize(
    "uri", ["untitled:a.py", "vscode-notebook-cell:/w/a.ipynb#1", "", "http://a/b"]
)
def test_only_files_are_on_this_machine(uri: str) -> None:
    assert file_path(uri) is None


def test_folders_elsewhere_are_left_out() -> None:
    assert folder_paths(["file:///a%20b", "vscode-remote://host/c"]) == [Path("/a b")]
