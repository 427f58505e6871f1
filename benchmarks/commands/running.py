"""What commands have in common: arguments, the model, a progress bar, where results go."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.models import RANDOM_DTYPES, open_bundle
from benchmarks.report import draw, print_results
from benchmarks.results import Recorder, write_results
from benchmarks.subjects import SubjectSpec
from server.bundle import Bundle

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PAGE_WIDTH = 170

Step = Callable[[str], None]


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add what every measurement of a served model can be told."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", default="", help="a bundle; without it the embedded model")
    model.add_argument(
        "--random-124m",
        choices=RANDOM_DTYPES,
        help="GPT-2 of 124M random weights, made at the first use",
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as usual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer rounds, under two minutes")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the results")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the times")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add where the subjects shall run."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def open_asked(arguments: argparse.Namespace, console: Console) -> Bundle:
    """Open the bundle that is asked for."""
    return open_bundle(
        arguments.model,
        arguments.random_124m,
        lambda text: console.print(text, markup=False),
        getattr(arguments, "device", "cpu"),
    )


def base_spec(arguments: argparse.Namespace, bundle: Bundle) -> SubjectSpec:
    """Return what all subjects of a command have in common."""
    return SubjectSpec(
        name="",
        maker="",
        folder=bundle.folder,
        n_threads=arguments.threads,
        seed=arguments.seed,
        device=arguments.device,
    )


def recorder_of(
    kind: str, command: str, arguments: argparse.Namespace, bundle: Bundle, **settings: Any
) -> Recorder:
    """Return where the figures of a command go."""
    manifest = bundle.manifest
    return Recorder(
        kind=kind,
        command=command,
        seed=arguments.seed,
        settings={
            "model": manifest.name,
            "layout": manifest.layout,
            "dtype": manifest.dtype,
            "threads": arguments.threads,
            **settings,
        },
    )


def finish(recorder: Recorder, arguments: argparse.Namespace, console: Console) -> None:
    """Write, show and draw what was measured; what is shown is made from what is written."""
    results = recorder.finish()
    if arguments.output is not None:
        write_results(results, arguments.output)
        console.print(f"written to {arguments.output}", markup=False)
    print_results(page(), results)
    if arguments.plot is not None:
        draw(results, arguments.plot)


def page() -> Console:
    """Return stdout; rows stay whole where it is a file."""
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


@contextmanager
def bar(console: Console, n_steps: int) -> Iterator[Step]:
    """Show a progress bar; yield what moves it on."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=n_steps)

        def step(text: str) -> None:
            progress.update(bar, advance=1, description=text)

        yield step
