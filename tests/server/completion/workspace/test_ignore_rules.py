"""What git ignores, told as git tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.completion.workspace.ignore_rules import MAX_RULES_BYTES, IgnoreRules

FILES = (
    "kept.py",
    "notes.txt",
    "kept.txt",
    "private.py",
    "build/made.py",
    "sub/own.py",
    "sub/note.txt",
    "sub/code.py",
    "sub/deep/build/x.py",
    "sub/deep/again.py",
    "doc/build/x.md",
    "with space.md",
)
RULES = {
    ".gitignore": "*.txt\nbuild/\n!kept.txt\n/sub/deep/*\n# comment\n\n!/sub/deep/again.py\n",
    ".git/info/exclude": "private.py\nwith space.md\n",
    "sub/.gitignore": "own.py\n!note.txt\n",
    "doc/.gitignore": "!build/\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("below", ["", "sub", "sub/deep"])
def test_the_rules_agree_with_git(tmp_path: Path, below: str) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, RULES | dict.fromkeys(FILES, ""))
    asked = [p.removeprefix(f"{below}/") for p in FILES if p.startswith(below)]
    said = subprocess.run(
        ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", "-z", "--stdin"],
        input="\0".join(asked),
        cwd=tmp_path / below,
        capture_output=True,
        text=True,
        check=False,  # It exits with 1 where nothing is ignored.
    )
    rules = IgnoreRules(tmp_path / below)
    assert [path for path in asked if rules.ignores(path)] == said.stdout.split("\0")[:-1]


def test_a_folder_that_the_repository_above_ignores_is_worked_in_knowingly(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "", ".gitignore": "*\n", "project/.gitignore": "out.py\n"})
    rules = IgnoreRules(tmp_path / "project")
    assert not rules.ignores("a.py")
    assert rules.ignores("out.py")


def test_without_a_repository_no_rules_above_count(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "a.py\n", "project/.gitignore": "b.py\n"})
    rules = IgnoreRules(tmp_path / "project")
    assert not rules.ignores("a.py")
    assert rules.ignores("b.py")


def test_a_pattern_without_a_meaning_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "!\na.py\n"})
    assert IgnoreRules(tmp_path).ignores("a.py")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among files")
def test_rules_that_are_no_file_are_no_rules(tmp_path: Path) -> None:
    """A link to `/dev/zero` filled the memory, and a pipe stopped the server."""
    outside = write(tmp_path / "outside", {".gitignore": "a.py\n"})
    inside = write(tmp_path / "inside", {"large/.gitignore": "a.py\n" * MAX_RULES_BYTES})
    (inside / ".gitignore").symlink_to(outside / ".gitignore")
    (inside / "zero").mkdir()
    (inside / "zero/.gitignore").symlink_to("/dev/zero")
    (inside / "pipe").mkdir()
    os.mkfifo(inside / "pipe/.gitignore")
    (inside / "link").symlink_to(outside)
    rules = IgnoreRules(inside)
    for path in ("a.py", "zero/a.py", "pipe/a.py", "large/a.py", "link/a.py"):
        assert not rules.ignores(path), path
