"""The command line: `python -m training corpus | tokenizer | train | ...`.

Parses arguments, configures logging and prints results; each command's work stands in its own
module, imported when the command runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from server.errors import CompletionServerError
from server.exit_codes import ExitCode
from training.commands import making, measuring, releasing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit status."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(
        level=args.log_level.upper(),
        format="%(asctime)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    if args.log_level != "debug":
        # Commands that serve a model ask it thousands of times; each request is a line of its log.
        logging.getLogger("server").setLevel(logging.WARNING)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        args.command(args)
    except CompletionServerError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.DONE


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (making, measuring, releasing):
        family.add(commands)
    return parser
