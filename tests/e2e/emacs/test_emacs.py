"""Emacs and lsp-mode as the docs configure them, with no code of ours: the standard suffices."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("drive.el")
SOURCE = '''class Queue:
    """Jobs in the order in which they came."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def pop(self) -> int:
        if not self.items:
            raise IndexError("pop from an empty queue")
        return self.'''


@pytest.fixture(scope="session")
def emacs() -> str:
    found = subprocess.run(
        [REPOSITORY / "scripts" / "install-emacs"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


def configuration() -> str:
    """Return the Lisp of `docs/editors/emacs.md`, all of it."""
    page = (REPOSITORY / "docs" / "editors" / "emacs.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```elisp\n(.*?)```", page, re.DOTALL))


def test_the_documented_configuration_shows_and_takes_a_completion(
    emacs: str, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "init.el").write_text(configuration(), encoding="utf-8")
    commands = tmp_path / "bin"
    commands.mkdir()
    server = commands / "foretype-server"
    server.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m server "$@"\n', encoding="utf-8")
    server.chmod(0o755)
    done = subprocess.run(
        [emacs, "--batch", "-Q", "-l", tmp_path / "init.el", "-l", DRIVER],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PATH": f"{commands}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["before"] == SOURCE
    assert seen["candidates"] >= 1
    assert seen["shown"].strip()
    assert seen["after"].startswith(SOURCE)
    assert seen["after"].removeprefix(SOURCE) == seen["shown"]
