"""What git ignores below a folder: the `.gitignore` files, nested ones, and `.git/info/exclude`.

Answers as git does for files that are not tracked. Knows neither what is read nor what is learned.
"""

from __future__ import annotations

from pathlib import Path

import pathspec

from server.completion.workspace.regular_file import (
    Stamp,
    is_without_links,
    read_regular_file,
    stamp,
)

IGNORE_FILE = ".gitignore"
MAX_RULES_BYTES = 200_000
"""Of one file of rules; a larger one is no file that a person wrote. Guessed."""


class IgnoreRules:
    """The rules that hold in one folder, read when they are first asked for.

    Rules of the folders above count up to the one that holds `.git`, as for git; but where they
    ignore this very folder, who works in it does so knowingly, and they say nothing.
    """

    def __init__(self, root: Path) -> None:
        """Look at nothing yet.

        Args:
            root: the folder, without links.
        """
        self._root = root
        self._place: tuple[Path, str] | None = None
        self._rules: dict[str, pathspec.GitIgnoreSpec | None] = {}
        self._stamps: dict[Path, Stamp | None] = {}

    def ignores(self, path: str) -> bool:
        """Return whether git ignores a file, or a folder above it.

        Args:
            path: relative to the root, with forward slashes; a folder's ends with one.
        """
        parts = path.rstrip("/").split("/")
        folders = ("/".join(parts[:end]) + "/" for end in range(1, len(parts)))
        return any(map(self.ignores_itself, folders)) or self.ignores_itself(path)

    def ignores_itself(self, path: str) -> bool:
        """Return whether a file, or a folder, which ends with a slash, is ignored by its own name.

        For whoever comes from above and asked about the folders on the way.
        """
        if self._place is None:
            self._place = self._find_place()
        _, below = self._place
        return self._verdict(below + path)

    @property
    def are_outdated(self) -> bool:
        """Whether a file of rules came, changed or went since it was read."""
        return any(stamp(file) != before for file, before in list(self._stamps.items()))

    def _find_place(self) -> tuple[Path, str]:
        """Return the repository's folder, and the way down to ours with a slash at its end."""
        above = (folder for folder in (self._root, *self._root.parents) if _is_repository(folder))
        top = next(above, self._root)
        self._place = top, ""
        if top != self._root:
            way = self._root.relative_to(top).as_posix()
            parts = way.split("/")
            folders = ("/".join(parts[:end]) + "/" for end in range(1, len(parts) + 1))
            if not any(map(self._verdict, folders)):
                return top, f"{way}/"
            self._rules.clear()
        return self._root, ""

    def _verdict(self, path: str) -> bool:
        """The nearest file of rules that says anything decides.

        Args:
            path: relative to the repository.
        """
        parents = path.rstrip("/").split("/")[:-1]
        for depth in range(len(parents), -1, -1):
            folder = "/".join(parents[:depth])
            rules = self._rules_of(folder)
            if rules is not None:
                below = path[len(folder) + 1 :] if folder else path
                verdict = rules.check_file(below).include
                if verdict is not None:
                    return verdict
        return False

    def _rules_of(self, folder: str) -> pathspec.GitIgnoreSpec | None:
        if folder not in self._rules:
            assert self._place is not None
            top = self._place[0]
            files = [top / folder / IGNORE_FILE]
            if not folder:
                files.insert(0, top / ".git" / "info" / "exclude")
            is_inside = is_without_links(top / folder)
            self._stamps |= {file: stamp(file) for file in files}
            lines = [line for file in files for line in _patterns(file)] if is_inside else []
            self._rules[folder] = pathspec.GitIgnoreSpec.from_lines(lines) if lines else None
        return self._rules[folder]


def _is_repository(folder: Path) -> bool:
    try:
        return (folder / ".git").exists()
    except OSError:
        return False


def _patterns(file: Path) -> list[str]:
    """Return the patterns of a file that have a meaning; none if it can't be read."""
    data = read_regular_file(file, MAX_RULES_BYTES) or b""
    text = data.decode("utf-8", "replace")
    return [line for line in text.splitlines() if _is_pattern(line)]


def _is_pattern(line: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return bool(line.strip())
