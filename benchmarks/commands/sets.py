"""Everything that tells how fast it is, one after the other, into one folder; and all goals."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.commands.running import page
from benchmarks.errors import BenchmarkError
from benchmarks.goals import NOT_MEASURED_HERE
from benchmarks.report import print_goals
from benchmarks.results import read_results

if TYPE_CHECKING:
    from benchmarks.commands.running import Commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One results file of the set."""

    name: str
    arguments: tuple[str, ...]
    n_rounds: int
    """As many as take less than five minutes on two cores."""


_124M = ("--random-124m", "int8")
MEASUREMENTS = (
    Measurement(name="throughput-embedded", arguments=("throughput",), n_rounds=15),
    Measurement(name="throughput-124m", arguments=("throughput", *_124M), n_rounds=5),
    Measurement(name="latency-embedded", arguments=("latency", "--lines", "12"), n_rounds=7),
    Measurement(name="latency-124m", arguments=("latency", *_124M, "--lines", "6"), n_rounds=5),
    Measurement(name="peers-embedded", arguments=("peers",), n_rounds=15),
    Measurement(name="peers-124m", arguments=("peers", *_124M), n_rounds=5),
    Measurement(name="servers-embedded", arguments=("servers",), n_rounds=40),
    Measurement(name="servers-124m", arguments=("servers", *_124M), n_rounds=20),
)


def add(commands: Commands) -> None:
    """Add the command."""
    everything = commands.add_parser("all", help="the whole set about speed, and every goal")
    everything.set_defaults(run=_all)
    everything.add_argument("--output-folder", type=Path, required=True, metavar="FOLDER")
    everything.add_argument(
        "--only", default="", metavar="NAME,...", help="of " + ", ".join(names())
    )
    everything.add_argument("--rounds", type=int, default=0, help="0: as many as usual")


def names() -> list[str]:
    """Return what the set consists of."""
    return [one.name for one in MEASUREMENTS]


def choose(only: str) -> list[Measurement]:
    """Return the measurements that are asked for, in their order; empty: all.

    Raises:
        BenchmarkError: there is no such measurement.
    """
    asked = {name for name in only.split(",") if name}
    unknown = sorted(asked.difference(names()))
    if unknown:
        raise BenchmarkError(f"no {', '.join(unknown)} among {', '.join(names())}")
    return [one for one in MEASUREMENTS if not asked or one.name in asked]


def arguments_of(one: Measurement, folder: Path, n_rounds: int = 0) -> list[str]:
    """Return the command line that makes one file of the set."""
    rounds = str(n_rounds or one.n_rounds)
    return [*one.arguments, "--rounds", rounds, "--output", str(folder / f"{one.name}.json")]


def _all(arguments: argparse.Namespace, command: str, console: Console) -> None:
    failed: list[str] = []
    for one in choose(arguments.only):
        console.print(f"{one.name}:")
        given = arguments_of(one, arguments.output_folder, arguments.rounds)
        # Each in a process of its own, so that none inherits threads or memory of another.
        if subprocess.run([sys.executable, "-m", "benchmarks", *given], check=False).returncode:
            failed.append(one.name)
    show_goals(arguments.output_folder, [one.name for one in MEASUREMENTS])
    if failed:
        raise BenchmarkError(f"failed: {', '.join(failed)}")


def show_goals(folder: Path, of: Sequence[str]) -> None:
    """Print the goals of all files of the set that are there, and those that none can reach."""
    found = {
        name: read_results(folder / f"{name}.json")["goals"]
        for name in of
        if (folder / f"{name}.json").is_file()
    }
    print_goals(page(), {**found, "not measured": NOT_MEASURED_HERE})
