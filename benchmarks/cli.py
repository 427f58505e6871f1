"""`python -m benchmarks`: reads the command line and runs what it asks for.

What the commands are stands in `commands`, what they measure in modules of their own, imported when
a command runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmarks.commands import reading, sets, speed, trust, worth
from server.errors import CompletionServerError
from server.exit_codes import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 2 not possible, 130 interrupted."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(given)
    console = Console(stderr=True)
    try:
        arguments.run(arguments, f"python -m benchmarks {shlex.join(given)}", console)
    except CompletionServerError as exc:
        console.print(f"benchmarks: {exc}", style="red", markup=False)
        return ExitCode.MISUSED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (speed, sets, worth, trust, reading):
        family.add(commands)
    return parser
