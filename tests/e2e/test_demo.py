"""`make demo`'s script, quicker than a person types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


def test_the_demo_shows_ghost_text_from_a_real_server() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", "--speed", "5", "--characters", "300"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "foretype" in done.stdout
    assert "first ghost text" in done.stdout
    assert "Neovim" in done.stdout
    assert done.stderr == ""
