"""What the audit makes of the look-up's report."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.audit import verdict

ROOT = Path(__file__).parents[2]


def row(name: str, *ids: str, reason: str = "") -> dict[str, object]:
    if reason:
        return {"name": name, "skip_reason": reason}
    return {"name": name, "version": "1.0", "vulns": [{"id": one} for one in ids]}


def test_a_known_vulnerability_fails_and_is_named() -> None:
    report = {"dependencies": [row("good"), row("bad", "CVE-2026-1", "CVE-2026-2")]}
    assert verdict(report) == ("bad 1.0: CVE-2026-1\nbad 1.0: CVE-2026-2", True)


def test_what_could_not_be_looked_up_is_said() -> None:
    report = {"dependencies": [row("good"), row("ours", reason="not found")]}
    told, is_bad = verdict(report)
    assert told == (
        "no vulnerability is known of 1 packages; 1 could not be looked up, such as ours"
    )
    assert not is_bad


def test_a_service_that_knows_nothing_is_no_all_clear() -> None:
    told, is_bad = verdict({"dependencies": [row("ours", reason="not found")]})
    assert told.startswith("skipped: ")
    assert not is_bad


def test_the_tools_of_the_audit_are_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert {"cyclonedx-bom", "pip_audit", "atheris"} <= {pin.split("==")[0] for pin in pins}
    made = subprocess.run(
        ["make", "-n", "audit", "PYTHON=true"], cwd=ROOT, capture_output=True, text=True
    )
    assert "scripts/audit.py" in made.stdout
