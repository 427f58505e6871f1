"""Which files of a workspace may be read, and their text.

Never out of the folder, through no link, nothing that is ignored by git, denied, binary, too large
or generated. Knows neither engine nor editor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pathspec

from server.completion.gates import denying_pattern, says_generated

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
IGNORE_FILE = ".gitignore"

_SPLIT_LINES = re.compile("\r\n?|\n")


class WorkspaceFolder:
    """One folder of the workspace. A path is relative to it, with forward slashes."""

    def __init__(self, root: Path, denied_paths: Sequence[str]) -> None:
        """Look at nothing yet.

        Args:
            root: the folder.
            denied_paths: gitignore patterns of files that are never read.
        """
        self.root = root.resolve()
        self._denied_paths = tuple(denied_paths)
        self._rules: dict[str, pathspec.GitIgnoreSpec | None] = {}

    def walk(self) -> Iterator[str]:
        """Yield the paths of the files that may be read, by their names, in a fixed order."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
            except OSError:
                continue  # It was deleted meanwhile, or is not ours to read.
            inner = []
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    continue
                if entry.is_dir():
                    is_skipped = entry.name in SKIPPED_FOLDERS or self._verdict(f"{path}/")
                    inner += [] if is_skipped else [path]
                elif (
                    _is_text_name(entry.name)
                    and not self._verdict(path)
                    and not self._is_denied(path)
                ):
                    yield path
            folders += reversed(inner)

    def may_read(self, path: str) -> bool:
        """Return whether the rules allow a file, whether it exists or not."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or not _is_text_name(parts[-1]):
            return False
        if SKIPPED_FOLDERS.intersection(parts[:-1]) or self._is_denied(path):
            return False
        folders = ("/".join(parts[:end]) + "/" for end in range(1, len(parts)))
        return not any(map(self._verdict, folders)) and not self._verdict(path)

    def read(self, path: str) -> str | None:
        """Return a file's text with LF line ends; None: it can't be read, or is no text to learn.

        The rules of `may_read` are the caller's to ask.
        """
        location = self.root / path
        try:
            if location.resolve() != location or location.stat().st_size > MAX_FILE_BYTES:
                return None
            data = location.read_bytes()
        except OSError:
            return None
        if b"\0" in data:
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None
        lines = _SPLIT_LINES.split(text)
        if says_generated(text) or max(map(len, lines)) > MAX_LINE_CHARS:
            return None
        return "\n".join(lines)

    def forget_rules(self) -> None:
        """Read the `.gitignore` files anew from here on: one of them changed."""
        self._rules.clear()

    def _is_denied(self, path: str) -> bool:
        return bool(denying_pattern(path, self._denied_paths))

    def _verdict(self, path: str) -> bool:
        """Return whether git ignores a file, or a folder, which ends with a slash.

        The nearest `.gitignore` that says anything decides, as in git; the folders above are
        another question.
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
            files = [self.root / folder / IGNORE_FILE]
            if not folder:
                files.insert(0, self.root / ".git" / "info" / "exclude")
            lines = [line for file in files for line in _lines(file)]
            self._rules[folder] = pathspec.GitIgnoreSpec.from_lines(lines) if lines else None
        return self._rules[folder]


def _is_text_name(name: str) -> bool:
    return name in NAMES or PurePosixPath(name).suffix.lower() in SUFFIXES


def _lines(file: Path) -> list[str]:
    """Return the patterns of a file that have a meaning; none if it can't be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if _is_pattern(line)]


def _is_pattern(line: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return bool(line.strip())
