"""A user's folder or git repository as texts to learn from, and lines to be judged by.

Splits by time where there is history: what stood at a past commit is learned from, the lines added
since are the test. Otherwise by file. Calls git; knows nothing of models.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import FinetuneError
from training.filters import drop_licence_header, normalize, reason_to_leave_out
from training.scrubbing import scrub

SplitBy = Literal["time", "file"]

# Share of the commits, or of the files, that is held back.
HELD_BACK_SHARE = 0.15
FEWEST_COMMITS = 10
LARGEST_FILE_BYTES = 300_000
# Folders that hold other people's code or none.
SKIPPED_PARTS = {".git", ".venv", "venv", "node_modules", "site-packages", "__pycache__", "build"}
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A text and the lines of it (counted from 1) that the result is judged by."""

    path: str
    text: str
    lines: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What is learned from, and what is held back."""

    split_by: SplitBy
    since: str
    train: tuple[str, ...]
    held_back: tuple[HeldBack, ...]

    @property
    def train_bytes(self) -> int:
        """Return how much text there is to learn from."""
        return sum(len(text.encode()) for text in self.train)


def read_repository(
    root: Path, split_by: SplitBy | None = None, suffixes: tuple[str, ...] = (".py",)
) -> Repository:
    """Read a folder; by time if it has history and nothing else is asked for.

    Raises:
        FinetuneError: it is no folder, or a split by time is asked for and there is no history.
    """
    if not root.is_dir():
        raise FinetuneError(f"{root} is no folder")
    commits = _commits(root)
    if split_by == "time" and len(commits) < FEWEST_COMMITS:
        raise FinetuneError(
            f"{root} has {len(commits)} commits, too few to split by time (at least "
            f"{FEWEST_COMMITS}); use --split file"
        )
    if split_by == "file" or len(commits) < FEWEST_COMMITS:
        return _by_file(root, suffixes)
    return _by_time(root, commits, suffixes)


def clean(data: bytes) -> str | None:
    """Return a file's text without secrets and licence header; None if it is unfit."""
    text = normalize(data)
    if text is None or len(data) > LARGEST_FILE_BYTES:
        return None
    text = drop_licence_header(text)
    if reason_to_leave_out(text, is_python=True) is not None:
        return None
    return scrub(text)[0]


def _by_file(root: Path, suffixes: tuple[str, ...]) -> Repository:
    train, held_back = [], []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        is_own = not SKIPPED_PARTS & set(Path(name).parts)
        if not (is_own and path.suffix in suffixes and path.is_file()):
            continue
        text = clean(path.read_bytes())
        if text is None:
            continue
        # By a hash of the name: the same file is held back whatever else comes and goes.
        if hashlib.sha256(name.encode()).digest()[0] < 256 * HELD_BACK_SHARE:
            lines = frozenset(range(1, text.count("\n") + 2))
            held_back.append(HeldBack(path=name, text=text, lines=lines))
        else:
            train.append(text)
    return Repository(split_by="file", since="", train=tuple(train), held_back=tuple(held_back))


def _by_time(root: Path, commits: list[str], suffixes: tuple[str, ...]) -> Repository:
    since = commits[int(len(commits) * HELD_BACK_SHARE)]
    train = []
    for name in _git(root, "ls-tree", "-r", "--name-only", "-z", since).split("\0"):
        if name.endswith(suffixes) and not SKIPPED_PARTS & set(Path(name).parts):
            text = clean(_git_bytes(root, "show", f"{since}:{name}"))
            if text is not None:
                train.append(text)
    held_back = []
    # One diff for all files, so that a moved file's old lines do not count as new.
    diff = _git(
        root, "-c", "core.quotePath=false", "diff", "-U0", "-M", "--ignore-all-space", since, "HEAD"
    )
    for name, lines in added_lines(diff).items():
        if not name.endswith(suffixes) or SKIPPED_PARTS & set(Path(name).parts):
            continue
        text = normalize(_git_bytes(root, "show", f"HEAD:{name}"))
        if text and len(text) <= LARGEST_FILE_BYTES:
            held_back.append(HeldBack(path=name, text=scrub(text)[0], lines=lines))
    return Repository(split_by="time", since=since, train=tuple(train), held_back=tuple(held_back))


def added_lines(diff: str) -> dict[str, frozenset[int]]:
    """Return, by file, the numbers of the lines that a diff without context adds."""
    found: dict[str, set[int]] = {}
    lines: set[int] = set()
    for line in diff.split("\n"):
        # Added text can begin with "++ b/" too, but then stands within a hunk, after "+".
        if line.startswith("+++ b/"):
            lines = found.setdefault(line.removeprefix("+++ b/").removesuffix("\t"), set())
        elif (match := _HUNK.match(line)) is not None:
            first, n = int(match[1]), int(match[2]) if match[2] is not None else 1
            lines.update(range(first, first + n))
        elif line.startswith("diff --git"):
            lines = set()
    return {name: frozenset(numbers) for name, numbers in found.items() if numbers}


def _commits(root: Path) -> list[str]:
    try:
        return _git(root, "log", "--no-merges", "--format=%H").split()
    except FinetuneError:
        return []


def _git(root: Path, *arguments: str) -> str:
    return _git_bytes(root, *arguments).decode("utf-8", errors="replace")


def _git_bytes(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as exc:
        detail = getattr(exc, "stderr", b"").decode("utf-8", errors="replace").strip()
        raise FinetuneError(f"git {arguments[0]} failed in {root}: {detail or exc}") from exc
