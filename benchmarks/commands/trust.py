"""How trustworthy: long days, faults, and any bytes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.commands.running import (
    add_measuring,
    bar,
    finish,
    open_asked,
    recorder_of,
)
from benchmarks.errors import BenchmarkError
from benchmarks.results import Recorder

if TYPE_CHECKING:
    from benchmarks.commands.running import Commands


def add(commands: Commands) -> None:
    """Add the commands."""
    soak = commands.add_parser("soak", help="hours of typing in minutes; what is lost or leaks")
    soak.set_defaults(run=_soak)
    add_measuring(soak)
    soak.add_argument("--minutes", type=float, default=0.0, help="per server; 0: 10, short: 0.2")
    soak.add_argument("--fake", action="store_true", help="only the server without a model")

    faults = commands.add_parser("faults", help="how long a server takes to recover from faults")
    faults.set_defaults(run=_faults, plot=None)
    faults.add_argument("--rounds", type=int, default=5, help="injections of each")
    faults.add_argument("--output", type=Path, metavar="FILE.json", help="write the results")

    fuzz = commands.add_parser("fuzz", help="any bytes over what reads a stranger's; needs [fuzz]")
    fuzz.set_defaults(run=_fuzz)
    fuzz.add_argument("--seconds", type=int, default=60, help="per target")
    fuzz.add_argument("--target", action="append", default=[], help="all, if none is named")
    fuzz.add_argument("--seed", type=int, default=0)
    fuzz.add_argument("--output", type=Path, metavar="FILE.json", help="write the results")
    fuzz.set_defaults(plot=None)


def _soak(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import soak

    bundle = open_asked(arguments, console)
    minutes = arguments.minutes or (0.2 if arguments.short else 10.0)
    subjects = [soak.fake_subject()]
    if not arguments.fake:
        name = bundle.manifest.name
        subjects.append(soak.model_subject(name, bundle.folder, arguments.threads))
    recorder = recorder_of("soak", command, arguments, bundle, minutes=minutes)
    wrongs: list[str] = []
    with bar(console, len(subjects) * soak.SAMPLES) as step:
        for subject in subjects:
            found = soak.soak(
                recorder, subject, seconds=60 * minutes, seed=arguments.seed, step=step
            )
            wrongs += [f"{subject.name}: {one}" for one in found]
    recorder.notes += wrongs
    finish(recorder, arguments, console)
    if wrongs:
        raise BenchmarkError("; ".join(wrongs))


def _faults(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import faults

    settings = {"rounds": arguments.rounds}
    recorder = Recorder(kind="faults", command=command, seed=0, settings=settings)
    with bar(console, arguments.rounds * len(faults.FAULTS)) as step:
        wrongs = faults.measure(recorder, n_rounds=arguments.rounds, step=step)
    recorder.notes += wrongs
    finish(recorder, arguments, console)
    if wrongs:
        raise BenchmarkError("; ".join(wrongs))


def _fuzz(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks.fuzz import fuzz
    from benchmarks.fuzz_targets import TARGETS

    names = arguments.target or list(TARGETS)
    settings = {"seconds": arguments.seconds, "targets": names}
    recorder = Recorder(kind="fuzz", command=command, seed=arguments.seed, settings=settings)
    with bar(console, len(names)) as step:
        found = fuzz(recorder, names, seconds=arguments.seconds, seed=arguments.seed, step=step)
    recorder.notes += found
    finish(recorder, arguments, console)
    if found:
        raise BenchmarkError("; ".join(found))
