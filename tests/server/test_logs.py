"""The log file: private, bounded, and no burden when it can't be written."""

from __future__ import annotations

import ast
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server import logs
from server.errors import OptionsError

ROOT = Path(__file__).parents[2]


def write(handler: logging.Handler, n_lines: int) -> None:
    for _ in range(n_lines):
        handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "x" * 99, (), None))


def test_a_long_log_is_put_aside_and_all_parts_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 1000)
    path = tmp_path / "server.log"
    handler = logs._file_handler(path)
    write(handler, 200)
    handler.close()
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [
        "server.log", "server.log.1", "server.log.2", "server.log.3"
    ]  # fmt: skip
    assert all(part.stat().st_size <= 1000 for part in parts)
    assert {part.stat().st_mode & 0o777 for part in parts} == {0o600}


def test_a_log_that_cannot_be_opened_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="can't be opened"):
        logs._file_handler(tmp_path / "missing" / "server.log")


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are a matter of POSIX")
def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import logging, resource, sys\n"
        "from server.logs import configure\n"
        "configure(sys.argv[1], 'info')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "for _ in range(500): logging.info('x' * 99)\n"
        "print('went on')\n"
    )
    log = tmp_path / "server.log"
    done = subprocess.run(
        [sys.executable, "-c", script, str(log)], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
    assert 0 < log.stat().st_size <= 2000


def test_no_module_of_the_server_waits_by_the_wall_clock() -> None:
    """It jumps: over summer time, after sleep, by hand. What is timed is timed by the other one."""
    wall = {("time", "time"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    for path in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in wall, f"{path}:{node.lineno}"


def test_what_nobody_caught_is_logged_without_its_message(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from server.logs import configure\n"
        "configure(sys.argv[1], 'info')\n"
        "def fail(): raise ValueError('marzipan')\n"
        "lost = threading.Thread(target=fail)\n"
        "lost.start(); lost.join()\n"
        "try: fail()\n"
        "except ValueError: raise KeyError('marzipan')\n"
    )
    log = tmp_path / "server.log"
    done = subprocess.run(
        [sys.executable, "-c", script, str(log)], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (1, "")
    text = log.read_text()
    assert text.count("Traceback of ValueError") == 2
    assert "Traceback of KeyError" in text
    assert "in fail" in text
    assert "marzipan" not in text
