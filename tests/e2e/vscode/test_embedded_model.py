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
class Counter:
    def __init__(self, items=None):
        self.counts = {}
        for item in items or ():
            self.add(item)

    def add(self, item):
        self.counts[item] = self.counts.get(item, 0) + 1

    def total(self):
        return sum(self.counts.values())

"""
TYPED = "    def __len__("


@pytest.mark.skipif(not (ROOT / "server" / "embedded").exists(), reason="no embedded model")
def test_the_embedded_model_completes_a_file(
    start_code_server: Callable[..., Any], open_window: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "counter.py").write_text(BEGUN)
    server = start_code_server(machine_settings={"foretype.client.interpreter": sys.executable})
    window = open_window(server, tmp_path)
    assert "cpu" in window.wait_for_status("ready", 90)
    assert "Foretype: loading | Foretype 50%" in window.status_states
    window.open("counter.py")
    window.type(TYPED)
    offered = window.wait_for_ghost("return")
    window.screenshot("model", bottom=420)
    window.press("Tab")
    window.wait_until(
        lambda: window.saved("counter.py").startswith(BEGUN + TYPED + offered[:3]),
        "the offer is in the file",
    )
