"""Every command ends with a code of one list, which the page for people repeats."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"


def test_the_page_of_exit_codes_is_what_the_code_says() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(str(code.value), code.meaning) for code in ExitCode]


@pytest.mark.parametrize("package", ["server", "export", "training", "benchmarks"])
def test_no_command_ends_with_a_number_of_its_own(package: str) -> None:
    for path in [*(ROOT / package).glob("cli.py"), ROOT / "server" / "complete.py"]:
        text = path.read_text(encoding="utf-8")
        assert "ExitCode." in text
        assert not re.search(r"(?:sys\.exit\(|^    return )[0-9]", text, re.MULTILINE), path


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--version", ExitCode.DONE),
        ("--nonsense", ExitCode.MISUSED),
        ("--model /nonexistent complete README.md:1", ExitCode.MISUSED),
        ("complete /nonexistent:1:1", ExitCode.MISUSED),
        ("--blocked-plugins ort,pytorch doctor", ExitCode.FAILED),
    ],
)
def test_a_command_ends_with_its_code(command: str, code: ExitCode) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", *command.split()], capture_output=True, cwd=ROOT
    )
    assert done.returncode == code, done.stderr.decode()


@pytest.mark.parametrize("bye", [True, False])
def test_the_server_ends_with_its_code(bye: bool) -> None:
    """Without a word: its input just ends."""
    messages: list[dict[str, object]] = [
        {"id": 1, "method": "initialize", "params": {"processId": None, "capabilities": {}}}
    ]
    if bye:
        messages += [{"id": 2, "method": "shutdown"}, {"method": "exit"}]
    bodies = [json.dumps({"jsonrpc": "2.0", **message}) for message in messages]
    sent = "".join(f"Content-Length: {len(body)}\r\n\r\n{body}" for body in bodies)
    done = subprocess.run(
        [sys.executable, "-m", "server"], input=sent.encode(), capture_output=True, cwd=ROOT
    )
    assert done.returncode == (ExitCode.DONE if bye else ExitCode.FAILED)
