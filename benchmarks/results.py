"""A results file: JSON with everything that a figure needs to count. Written, read, compared.

Does not know how anything is measured or drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, Ratio, as_json, find
from benchmarks.machine import (
    busy_note,
    describe_commit,
    describe_machine,
    installed_versions,
    load_average,
)

FORMAT_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Collects one run's figures and writes them with what they were measured on."""

    kind: str
    """throughput, latency or peers."""
    command: str
    seed: int
    settings: Mapping[str, Any]
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    goals: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    """What the figures were made from, such as one row per request."""
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    load_before: float = field(default_factory=load_average)

    def finish(self) -> dict[str, Any]:
        """Return the results as they are written."""
        machine = describe_machine()
        loads = {"before": self.load_before, "after": load_average()}
        note = busy_note(loads, int(machine["cores"]))
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "command": self.command,
            "started": self.started,
            **describe_commit(),
            "machine": machine,
            "load_average": loads,
            "versions": installed_versions(),
            "seed": self.seed,
            "settings": dict(self.settings),
            "notes": [*self.notes, *([note] if note else [])],
            "figures": as_json(self.figures),
            "ratios": as_json(self.ratios),
            "goals": self.goals,
            "raw": self.raw,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure in two results files."""

    subject: str
    name: str
    unit: str
    before: float
    after: float
    ratio: float
    """After over before."""
    is_clear: bool
    """The ranges do not overlap; otherwise it may be noise."""


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write a results file.

    Raises:
        BenchmarkError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    except OSError as exc:
        raise BenchmarkError(f"{path} can't be written: {exc}") from exc


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        BenchmarkError: it is missing, malformed or of another format.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BenchmarkError(f"{path} is no results file: {exc}") from exc
    if not isinstance(results, dict) or results.get("format_version") != FORMAT_VERSION:
        raise BenchmarkError(f"{path} is no results file of format {FORMAT_VERSION}")
    return results


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return every figure that both files have, with the ratio of the medians.

    The two were not interleaved, so a ratio counts only where the ranges lie apart, and then only
    if the machine was as quiet both times.
    """
    changes = []
    for old in before["figures"]:
        new = find(after["figures"], old["subject"], old["name"])
        if new is None or not old["median"]:
            continue
        changes.append(
            Change(
                subject=old["subject"],
                name=old["name"],
                unit=old.get("unit", ""),
                before=old["median"],
                after=new["median"],
                ratio=new["median"] / old["median"],
                is_clear=new["low"] > old["high"] or new["high"] < old["low"],
            )
        )
    return changes


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
    """Return what else differs between two runs: machine, versions, settings."""
    told = []
    for part in ("machine", "versions", "settings"):
        for name in sorted(before[part].keys() | after[part].keys()):
            old, new = before[part].get(name), after[part].get(name)
            if old != new:
                told.append(f"{part}: {name} was {old}, is {new}")
    return told
