"""Which files of a workspace may be read, and their text.

Never out of the folder, through no link, nothing that is ignored by git, denied, binary, too large
or generated. Knows neither engine nor editor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from server.completion.gates import denying_pattern, says_generated
from server.completion.workspace.ignore_rules import IgnoreRules
from server.completion.workspace.regular_file import is_without_links, read_regular_file

MAX_FILE_BYTES = 400_000
"""Larger files are mostly data. Guessed."""
MAX_LINE_CHARS = 2000
"""A file with a longer line is minified or data. Guessed."""
# fmt: off
SUFFIXES = frozenset((
    ".bash", ".c", ".cc", ".cfg", ".clj", ".cpp", ".cs", ".css", ".cxx", ".dart", ".el", ".erl",
    ".ex", ".exs", ".fs", ".go", ".graphql", ".h", ".hh", ".hpp", ".hs", ".html", ".ini",
    ".java", ".jl", ".js", ".jsx", ".kt", ".less", ".lua", ".m", ".md", ".mjs", ".ml", ".nim",
    ".php", ".pl", ".proto", ".ps1", ".py", ".pyi", ".r", ".rb", ".rs", ".rst", ".scala",
    ".scss", ".sh", ".sql", ".svelte", ".swift", ".tex", ".tf", ".toml", ".ts", ".tsx", ".txt",
    ".vim", ".vue", ".yaml", ".yml", ".zig",
))
NAMES = frozenset(("CMakeLists.txt", "Dockerfile", "Justfile", "Makefile", "Rakefile"))
SKIPPED_FOLDERS = frozenset((
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "site-packages", "__pycache__", ".tox",
    ".mypy_cache",
))
"""Folders that nobody wrote in, whatever `.gitignore` says."""
# fmt: on
_SPLIT_LINES = re.compile("\r\n?|\n")


class WorkspaceFolder:
    """One folder of the workspace. A path is relative to it, with forward slashes."""

    def __init__(self, root: Path, denied_paths: Sequence[str]) -> None:
        """Look at no file yet.

        Args:
            root: the folder.
            denied_paths: gitignore patterns of files that are never read.
        """
        self.root = root.resolve()
        self.name = root
        """As the editor calls it, which may be through a link."""
        self._denied_paths = tuple(denied_paths)
        self._rules = IgnoreRules(self.root)

    def path_of(self, location: Path) -> str | None:
        """Return a file's path; None: it stands elsewhere."""
        for name in (self.name, self.root):
            if location.is_relative_to(name):
                return location.relative_to(name).as_posix()
        return None

    def walk(self, top: str = "") -> Iterator[str]:
        """Yield the paths of the files that may be read, by their names, in a fixed order.

        Args:
            top: a folder below this one that may be entered, where to start.
        """
        folders = [top] if is_without_links(self.root / top) else []
        while folders:
            folder = folders.pop()
            try:
                entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
            except OSError:
                continue  # It was deleted meanwhile, or is not ours to read.
            inner = []
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    is_skipped = entry.name in SKIPPED_FOLDERS
                    if not is_skipped and not self._rules.ignores_itself(f"{path}/"):
                        inner.append(path)
                elif (
                    entry.is_file(follow_symlinks=False)
                    and is_allowed_name(path, self._denied_paths)
                    and not self._rules.ignores_itself(path)
                ):
                    yield path
            folders += reversed(inner)

    def may_enter(self, path: str) -> bool:
        """Return whether files of a folder may be read."""
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or SKIPPED_FOLDERS.intersection(parts):
            return False
        return not self.ignores(f"{path}/")

    def may_read(self, path: str) -> bool:
        """Return whether the rules allow a file, whether it exists or not."""
        return is_allowed_name(path, self._denied_paths) and not self.ignores(path)

    def ignores(self, path: str) -> bool:
        """Return whether git ignores a file."""
        return self._rules.ignores(path)

    @property
    def has_new_rules(self) -> bool:
        """Whether git's rules have changed since they were read."""
        return self._rules.are_outdated

    def read(self, path: str) -> str | None:
        """Return a file's text with LF line ends; None: it can't be read, or is no text to learn.

        The rules of `may_read` are the caller's to ask.
        """
        location = self.root / path
        if not is_without_links(location):
            return None
        data = read_regular_file(location, MAX_FILE_BYTES)
        if data is None or b"\0" in data:
            return None
        try:
            text = "\n".join(_SPLIT_LINES.split(data.decode("utf-8-sig")))
        except UnicodeDecodeError:
            return None
        return text if is_worth_learning(text) else None


class Workspace:
    """The folders of the workspace, the first of which owns what stands in two of them."""

    def __init__(self, folders: Sequence[Path] = (), denied_paths: Sequence[str] = ()) -> None:
        """Look at no file yet; see `WorkspaceFolder`."""
        self.folders = tuple(WorkspaceFolder(folder, denied_paths) for folder in folders)
        self._denied_paths = tuple(denied_paths)

    @property
    def names(self) -> list[Path]:
        """The folders as the editor calls them."""
        return [folder.name for folder in self.folders]

    def place(self, location: Path | None) -> tuple[WorkspaceFolder | None, str]:
        """Return the folder that a file stands in, and its path there; no folder: it is outside."""
        if location is None:
            return None, ""
        for folder in self.folders:
            if (path := folder.path_of(location)) is not None:
                return folder, path
        return None, ""

    def ignores(self, location: Path | None) -> bool:
        """Return whether git ignores a file; of one outside nothing is known."""
        folder, path = self.place(location)
        return folder is not None and folder.ignores(path)

    def may_learn(self, path: str, location: Path | None) -> bool:
        """Return whether the text of an open document may be learned.

        It obeys the rules for its file; one that stands nowhere, or outside, those for its name.
        """
        folder, below = self.place(location)
        return folder.may_read(below) if folder else is_allowed_name(path, self._denied_paths)


def is_allowed_name(path: str, denied_paths: Sequence[str]) -> bool:
    """Return whether a file's path alone lets it be read."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or SKIPPED_FOLDERS & {*parts[:-1]}:
        return False
    is_text = parts[-1] in NAMES or PurePosixPath(path).suffix.lower() in SUFFIXES
    return is_text and not denying_pattern(path, denied_paths)


def is_worth_learning(text: str) -> bool:
    """Return whether a person may have written a text.

    Args:
        text: with LF line ends.
    """
    if len(text) > MAX_FILE_BYTES or says_generated(text):
        return False
    return max(map(len, text.split("\n"))) <= MAX_LINE_CHARS
