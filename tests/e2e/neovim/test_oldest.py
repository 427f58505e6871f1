"""The oldest Neovim that the plugin supports shows and takes ghost text as the newest does."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.neovim.conftest import REPOSITORY
from tests.e2e.neovim.test_ghost_text import *  # noqa: F403 - the same tests, in another Neovim


@pytest.fixture(scope="session")
def nvim_program() -> str:
    found = subprocess.run(
        [REPOSITORY / "scripts" / "install-neovim", "--oldest"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


def test_it_is_the_oldest(nvim_program: str) -> None:
    said = subprocess.run([nvim_program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("NVIM v0.11")
