"""What a client watches for us in the workspace, and what it says of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lsprotocol import types
from pygls.uris import to_fs_path

REGISTRATION_ID = "foretype-files"


def folder_paths(uris: Sequence[str]) -> list[Path]:
    """Return the workspace folders that are on this machine."""
    return [path for path in map(file_path, uris) if path is not None]


def file_path(uri: str) -> Path | None:
    """Return where a `file:` URI points; None for any other."""
    if urlsplit(uri).scheme != "file":
        return None
    path = to_fs_path(uri)
    return Path(path) if path else None


def registration(suffixes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the registration that asks a client to watch files.

    Whatever comes or goes is told: of a folder that is moved or deleted, some clients tell nothing
    but its own name.

    Args:
        suffixes: of files whose changes are told, with their dots.
        names: of files whose changes are told whatever their suffix.
    """
    endings = ",".join(sorted(suffix.removeprefix(".") for suffix in suffixes))
    patterns = [f"**/*.{{{endings}}}", *(f"**/{name}" for name in sorted(names))]
    changes = [{"globPattern": pattern, "kind": types.WatchKind.Change} for pattern in patterns]
    comings = {"globPattern": "**/*", "kind": types.WatchKind.Create | types.WatchKind.Delete}
    return {
        "id": REGISTRATION_ID,
        "method": types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
        "registerOptions": {"watchers": [comings, *changes]},
    }


def split_changes(
    events: Sequence[types.FileEvent],
) -> tuple[list[Path], list[Path]]:
    """Return the files that were made or changed, and those that were deleted."""
    changed: list[Path] = []
    deleted: list[Path] = []
    for event in events:
        path = file_path(event.uri)
        if path is not None:
            (deleted if event.type == types.FileChangeType.Deleted else changed).append(path)
    return changed, deleted
