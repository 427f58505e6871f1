"""What becomes of a checkpoint: released, archived, or tuned to a user's own code.

Each command's work stands in a module of its own, imported when the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.arguments import add_command, step_or_folder

if TYPE_CHECKING:
    from training.commands.arguments import Commands


def add(commands: Commands) -> None:
    """Add the commands."""
    release = add_command(commands, "release", _release, "fp16 checkpoint folder with its card")
    release.add_argument("run", type=Path)
    release.add_argument("--output", type=Path, required=True)
    release.add_argument("--work", type=Path, required=True, help="folder with the corpus")
    release.add_argument("--results", type=Path, nargs="*", default=[], help="from evaluate")
    release.add_argument(
        "--usefulness", type=Path, nargs="*", default=[], help="from benchmarks quality, replay"
    )
    release.add_argument("--commands", type=Path, help="text file: how the model was made")
    release.add_argument("--remark", action="append", default=[], help="a sentence for the card")

    archive = add_command(commands, "archive", _archive, "half-size copy of a run, to resume from")
    archive.add_argument("run", type=Path)
    archive.add_argument("--output", type=Path, required=True)

    text = "learn a user's own repository, on this machine, and serve the result if it is better"
    finetune = add_command(commands, "finetune", _finetune, text)
    finetune.add_argument("path", type=Path, help="folder or git repository")
    finetune.add_argument("--method", default="lora", choices=("lora", "full", "last-layer"))
    finetune.add_argument("--minutes", type=float, default=10.0, help="of training at most")
    finetune.add_argument("--split", choices=("time", "file"), help="default: time, with history")
    finetune.add_argument("--base", type=Path, help="checkpoint folder (default: the embedded one)")
    finetune.add_argument("--name", default="", help="of the served model (default: the folder's)")
    finetune.add_argument("--seed", type=int, default=1)
    finetune.add_argument("--no-export", action="store_true", help="leave it at the checkpoint")


def _release(args: argparse.Namespace) -> None:
    from training.release import release

    commands = args.commands.read_text(encoding="utf-8").splitlines() if args.commands else []
    print(
        release(
            args.run,
            args.output,
            corpus=args.work / "corpus",
            results=args.results,
            usefulness=args.usefulness,
            commands=commands,
            remarks=args.remark,
        )
    )


def _archive(args: argparse.Namespace) -> None:
    from training.release import archive

    print(archive(args.run, args.output))


def _finetune(args: argparse.Namespace) -> None:
    from training.personal import EMBEDDED, Request, personalize

    outcome = personalize(
        Request(
            path=args.path,
            base=step_or_folder(args.base) if args.base else EMBEDDED,
            method=args.method,
            minutes=args.minutes,
            split_by=args.split,
            name=args.name,
            seed=args.seed,
            exports=not args.no_export,
        )
    )
    print(outcome.report)
    print(f"\ncheckpoint: {outcome.checkpoint}")
    if outcome.bundle is not None:
        print(f"serve it: python -m server --model {outcome.name}")
