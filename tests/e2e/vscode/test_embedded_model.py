"""Ghost text from the embedded model, with no setting but the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[3]
BEGUN = """\
def count_words(text):
    words = text.split()
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def count_lines(text):
"""


@pytest.mark.skipif(not (ROOT / "server" / "embedded").exists(), reason="no embedded model")
def test_the_embedded_model_completes_a_file(
    start_code_server: Callable[..., Any], open_window: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "words.py").write_text(BEGUN)
    server = start_code_server(machine_settings={"foretype.client.interpreter": sys.executable})
    window = open_window(server, tmp_path)
    assert "cpu" in window.wait_for_status("ready", 90)
    assert "Foretype: loading | Foretype 50%" in window.status_states
    window.open("words.py")
    window.type("    lines = text.")
    offered = window.wait_for_ghost()
    window.screenshot("model", bottom=420)
    window.press("Tab")
    window.wait_until(
        lambda: window.saved("words.py").startswith(f"{BEGUN}    lines = text.{offered[:3]}"),
        "the offer is in the file",
    )
