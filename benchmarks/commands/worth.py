"""How good: lines completed, keystrokes saved, and what fewer bits cost."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
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
from benchmarks.models import open_bundle
from benchmarks.results import Recorder, write_results
from server.options import Options, apply_settings
from training.replay import RULES
from training.served import PARTS, Served, serving

if TYPE_CHECKING:
    from benchmarks.commands.running import Commands
    from benchmarks.usefulness import Held


def add(commands: Commands) -> None:
    """Add the commands."""
    accuracy = commands.add_parser("accuracy", help="what fewer bits cost, against fp32 PyTorch")
    accuracy.set_defaults(run=_accuracy)
    add_measuring(accuracy)
    accuracy.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="texts that no model was trained on"
    )

    for name, run, text in (
        ("quality", _quality, "lines completed at fixed cursors of held-out packages"),
        ("replay", _replay, "keystrokes saved by a simulated typist"),
    ):
        useful = commands.add_parser(name, help=text)
        useful.set_defaults(run=run)
        _add_held_out(useful)
    useful.add_argument("--rule", choices=RULES, default="full", help="what the typist accepts")
    useful.add_argument(
        "--latency-ms",
        default="measured",
        metavar="MS,...",
        help="of every answer: `measured`, or as many constants as you like; the first is tabled",
    )


def _accuracy(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from tempfile import TemporaryDirectory

    from benchmarks import accuracy

    bundle = open_asked(arguments, console)
    try:
        texts = [path.read_text(encoding="utf-8") for path in arguments.files]
    except (OSError, UnicodeDecodeError) as exc:
        raise BenchmarkError(f"a text can't be read: {exc}") from exc
    recorder = recorder_of("accuracy", command, arguments, bundle)
    with TemporaryDirectory() as folder, bar(console, 2 * len(accuracy.DTYPES) + 1) as step:
        bundles, notes = accuracy.export_all(bundle, Path(folder), step)
        recorder.notes += notes
        passages = accuracy.list_passages(bundle, texts)
        accuracy.measure(recorder, bundles, passages, arguments.threads, step)
    finish(recorder, arguments, console)


def _add_held_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="a bundle; without it the embedded model")
    parser.add_argument(
        "--corpus", type=Path, required=True, help="what `python -m training corpus` wrote"
    )
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--files", type=int, default=12, help="per package")
    parser.add_argument("--points", type=int, default=400, help="cursors in all, for quality")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a server setting as JSON, such as minConfidence=0.3; for ablations",
    )
    parser.add_argument(
        "--without", action="append", default=[], choices=PARTS, help="leave it out; for ablations"
    )
    parser.add_argument(
        "--recurrent",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="an RNN or LSTM of `python -m training train`, served in the same way",
    )
    parser.add_argument(
        "--memory",
        action="append",
        default=[],
        choices=("document", "off"),
        help="also with less memory than the workspace's, to see what it brings",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the results")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw confidence (quality), latency (replay)"
    )


def _quality(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks.calibration import CurvePoint, draw_curve
    from benchmarks.usefulness import quality
    from training.card import lines_table

    if "cache" in arguments.without:
        raise BenchmarkError("each cursor is asked at once; leave the cache out of a replay")
    recorder, options, held = _useful("quality", command, arguments)
    files = held.files()
    points = held.points(files)
    n_systems = 1 + len(arguments.memory) + len(arguments.recurrent)
    with (
        _systems(arguments, options, held) as systems,
        bar(console, n_systems * len(points)) as step,
    ):
        recorder.raw = quality(systems, files, points, step)
    _finish_useful(recorder, arguments, console)
    print(lines_table(recorder.raw))
    chosen = CurvePoint(**recorder.raw["chosen"])
    print(
        f"\n{recorder.raw['n_points']} cursors; minConfidence {chosen.threshold:g} would show "
        f"{chosen.coverage:.0%}, of which {chosen.precision:.0%} are right"
    )
    if arguments.plot is not None:
        curve = [CurvePoint(**point) for point in recorder.raw["curve"]]
        title = f"{recorder.settings['model']}, {held.split} packages"
        draw_curve(curve, chosen, title, arguments.plot)


def _replay(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks.usefulness import choose_regions, draw_latencies, hashes, replay_all
    from training.card import replay_table
    from training.replay import Typist

    recorder, options, held = _useful("replay", command, arguments)
    files = held.files()
    regions = choose_regions(files, held.seed)
    typist = Typist(rule=arguments.rule)
    latencies = _latencies(arguments.latency_ms)
    with (
        _systems(arguments, options, held) as systems,
        bar(console, len(latencies) * len(regions)) as step,
    ):
        by_latency = [
            {
                "latency_ms": latency_ms,
                "systems": replay_all(systems, regions, typist, latency_ms, step),
            }
            for latency_ms in latencies
        ]
    recorder.raw = {
        "typist": asdict(typist),
        "files": hashes(files),
        **by_latency[0],
        "by_latency": by_latency,
    }
    _finish_useful(recorder, arguments, console)
    print(replay_table(recorder.raw))
    if arguments.plot is not None:
        title = f"{recorder.settings['model']}, {held.split} packages"
        draw_latencies(by_latency, title, arguments.plot)


def _latencies(text: str) -> list[float | None]:
    latencies: list[float | None] = []
    for one in text.split(","):
        try:
            latencies.append(None if one == "measured" else float(one))
        except ValueError as exc:
            raise BenchmarkError(f"--latency-ms {text}: {one!r} is no number") from exc
    return latencies


@contextmanager
def _systems(
    arguments: argparse.Namespace, options: Options, held: Held
) -> Iterator[dict[str, Served]]:
    """Serve the model, and beside it the recurrent baselines, with the same settings.

    What may draw on the workspace learns all files of the split first.
    """
    from benchmarks.usefulness import SYSTEM

    asked = {SYSTEM: options}
    for scope in arguments.memory:
        asked[f"memory: {scope}"] = replace(options, memory=scope)
    for item in arguments.recurrent:
        name, equals, folder = item.partition("=")
        if not equals or name in asked:
            raise BenchmarkError(f"--recurrent {item}: NAME=RUN is expected, each name once")
        asked[name] = replace(options, engine="recurrent", model=folder)
    with ExitStack() as stack:
        systems = {
            name: stack.enter_context(serving(own, arguments.without))
            for name, own in asked.items()
        }
        for name, own in asked.items():
            if own.memory == "workspace" and own.engine == "local":
                systems[name].learn(held.workspace())
        yield systems


def _useful(
    kind: str, command: str, arguments: argparse.Namespace
) -> tuple[Recorder, Options, Held]:
    """Return where results go, what is served, and what it is asked."""
    from benchmarks.usefulness import Held

    given = {}
    for item in arguments.set:
        name, equals, value = item.partition("=")
        try:
            given[name] = json.loads(value)
        except ValueError as exc:
            raise BenchmarkError(f"--set {item}: {value!r} is no JSON") from exc
        if not equals:
            raise BenchmarkError(f"--set {item}: NAME=VALUE is expected")
    asked = {"model": arguments.model, "threads": arguments.threads, **given}
    options, warnings = apply_settings(Options(), asked)
    if warnings:
        raise BenchmarkError("; ".join(warnings))
    held = Held(
        corpus=arguments.corpus,
        split=arguments.split,
        files_per_package=arguments.files,
        n_points=arguments.points,
        seed=arguments.seed,
    )
    bundle = open_bundle(arguments.model, None, lambda _: None)
    recorder = recorder_of(
        kind,
        command,
        arguments,
        bundle,
        split=held.split,
        files_per_package=held.files_per_package,
        **given,
        **{f"without {part}": True for part in arguments.without},
    )
    return recorder, options, held


def _finish_useful(recorder: Recorder, arguments: argparse.Namespace, console: Console) -> None:
    if arguments.output is not None:
        write_results(recorder.finish(), arguments.output)
        console.print(f"written to {arguments.output}", markup=False)
