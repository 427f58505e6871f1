"""What results files say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.commands.running import (
    page,
)
from benchmarks.errors import BenchmarkError
from benchmarks.report import change_table, draw, print_results
from benchmarks.results import compare, differences, read_results

if TYPE_CHECKING:
    from benchmarks.commands.running import Commands


def add(commands: Commands) -> None:
    """Add the commands."""
    report = commands.add_parser("report", help="show, draw and compare results files")
    report.set_defaults(run=_report)
    report.add_argument("files", nargs="*", type=Path, metavar="RESULTS.json")
    report.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    report.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the first file")


def _report(arguments: argparse.Namespace, command: str, console: Console) -> None:
    shown = page()
    all_results = [read_results(path) for path in arguments.files]
    for results in all_results:
        print_results(shown, results)
    if arguments.plot is not None:
        if not all_results:
            raise BenchmarkError("--plot needs a results file")
        draw(all_results[0], arguments.plot)
    if arguments.compare is not None:
        before, after = map(read_results, arguments.compare)
        shown.print(change_table(compare(before, after)))
        for difference in differences(before, after):
            shown.print(f"- {difference}", markup=False)
    elif not all_results:
        raise BenchmarkError("nothing to report: name results files, or --compare BEFORE AFTER")
