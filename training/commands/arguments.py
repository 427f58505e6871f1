"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Add a command that calls a function; return its parser."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def add_config_and_work(parser: argparse.ArgumentParser) -> None:
    """Add what commands need that make something of a config."""
    parser.add_argument("--config", type=Path, required=True, help="training/configs/*.toml")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for corpus, tokens and runs"
    )


def step_or_folder(path: Path) -> Path:
    """Return the last step of a run, or the folder itself if it is none."""
    from training.checkpoint import latest_step

    return latest_step(path) or path
