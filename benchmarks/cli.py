"""`python -m benchmarks`: reads the command line, runs a measurement, writes and shows it.

Knows no figure: `throughput`, `scenario` and `peers` measure, `report` shows.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.errors import BenchmarkError
from benchmarks.models import RANDOM_DTYPES, open_bundle
from benchmarks.report import change_table, draw, print_results
from benchmarks.results import Recorder, compare, differences, read_results, write_results
from benchmarks.served import PARTS, Served, serving
from benchmarks.subjects import SubjectSpec
from server.bundle import Bundle
from server.errors import CompletionServerError
from server.exit_codes import ExitCode
from server.options import Options, apply_settings
from training.replay import RULES

if TYPE_CHECKING:
    from benchmarks.usefulness import Held

PAGE_WIDTH = 170

Step = Callable[[str], None]


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

    throughput = commands.add_parser("throughput", help="prefill, decode, memory of the backends")
    throughput.set_defaults(run=_throughput)
    _add_measuring(throughput)
    throughput.add_argument(
        "--backends", default="ort,pytorch", metavar="NAME,...", help="measured in turn"
    )

    latency = commands.add_parser("latency", help="keystrokes through a real server; start-up")
    latency.set_defaults(run=_latency)
    _add_measuring(latency)
    latency.add_argument(
        "--file", type=Path, default=Path(inspect.getfile(argparse)), help="the file that is typed"
    )
    latency.add_argument("--interval-ms", type=int, default=150, help="between two keys")
    latency.add_argument("--lines", type=int, default=0, help="typed at that pace, then slowly")

    profile = commands.add_parser("profile", help="where the time of a request goes")
    profile.set_defaults(run=_profile)
    _add_measuring(profile)
    profile.add_argument(
        "--file", type=Path, default=Path(inspect.getfile(argparse)), help="the file that is typed"
    )
    profile.add_argument("--interval-ms", type=int, default=150, help="between two keys")
    profile.add_argument("--lines", type=int, default=0, help="that are typed")

    memory = commands.add_parser("memory", help="what the memory of the workspace costs")
    memory.set_defaults(run=_memory)
    _add_measuring(memory)
    memory.add_argument("--tokens", type=int, default=2_000_000, help="of the workspace")

    accuracy = commands.add_parser("accuracy", help="what fewer bits cost, against fp32 PyTorch")
    accuracy.set_defaults(run=_accuracy)
    _add_measuring(accuracy)
    accuracy.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="texts that no model was trained on"
    )

    peers = commands.add_parser("peers", help="the same weights in other programs")
    peers.set_defaults(run=_peers)
    _add_measuring(peers)

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

    soak = commands.add_parser("soak", help="hours of typing in minutes; what is lost or leaks")
    soak.set_defaults(run=_soak)
    _add_measuring(soak)
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

    report = commands.add_parser("report", help="show, draw and compare results files")
    report.set_defaults(run=_report)
    report.add_argument("files", nargs="*", type=Path, metavar="RESULTS.json")
    report.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    report.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the first file")
    return parser


def _add_measuring(parser: argparse.ArgumentParser) -> None:
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


def _throughput(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import throughput
    from benchmarks.our_backend import our_spec
    from benchmarks.subjects import sample_tokens

    bundle = _open(arguments, console)
    rounds = arguments.rounds or (3 if arguments.short else 7)
    plan = throughput.Plan(
        n_rounds=rounds,
        n_loads=min(rounds, 3),
        tasks=throughput.list_tasks(bundle.manifest.spec),
    )
    base = _base(arguments, bundle)
    specs = [our_spec(base, name) for name in arguments.backends.split(",") if name]
    recorder = _recorder("throughput", command, arguments, bundle, rounds=rounds)
    spec = bundle.manifest.spec
    token_ids = sample_tokens(spec.n_vocab, spec.n_ctx, arguments.seed)
    with _bar(console, throughput.n_steps(plan, len(specs))) as step:
        throughput.measure(recorder, specs, token_ids, plan, step)
    _finish(recorder, arguments, console)


def _latency(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import scenario
    from benchmarks.goals import LATENCY_GOALS, Model, check_goals

    bundle = _open(arguments, console)
    rounds = arguments.rounds or (3 if arguments.short else 7)
    plan = scenario.Scenario(
        file=arguments.file,
        interval_ms=arguments.interval_ms,
        n_lines=arguments.lines or (2 if arguments.short else 12),
        n_starts=rounds,
        n_cancellations=5 * rounds,
        is_random=arguments.random_124m is not None,
        settings={"threads": arguments.threads},
    )
    recorder = _recorder(
        "latency",
        command,
        arguments,
        bundle,
        rounds=rounds,
        file=arguments.file.name,
        interval_ms=plan.interval_ms,
        n_lines=plan.n_lines,
    )
    if plan.is_random:
        told = ", ".join(f"{k}={v}" for k, v in scenario.RANDOM_SETTINGS.items())
        recorder.notes.append(f"a random network needs {told} to show anything")
    passage = scenario.find_passage(plan.file.read_text(encoding="utf-8"), plan.n_lines)
    with _bar(console, scenario.n_steps(passage, plan)) as step:
        scenario.run(recorder, bundle, plan, step)
    kind: Model = "124m" if plan.is_random else "any" if arguments.model else "embedded"
    recorder.goals = check_goals(LATENCY_GOALS, [*recorder.figures, *recorder.ratios], kind)
    _finish(recorder, arguments, console)


def _profile(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import profile, scenario

    bundle = _open(arguments, console)
    n_lines = arguments.lines or (4 if arguments.short else 20)
    passage = scenario.find_passage(arguments.file.read_text(encoding="utf-8"), n_lines)
    settings = {"threads": arguments.threads}
    recorder = _recorder(
        "profile",
        command,
        arguments,
        bundle,
        file=arguments.file.name,
        interval_ms=arguments.interval_ms,
        n_lines=n_lines,
    )
    with _bar(console, len(passage.quick)) as step:
        profile.measure(
            recorder, bundle, arguments.file, passage, settings, arguments.interval_ms, step
        )
    _finish(recorder, arguments, console)


def _memory(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import memory

    bundle = _open(arguments, console)
    plan = memory.MemoryPlan(
        n_tokens=arguments.tokens,
        n_saves=arguments.rounds or (3 if arguments.short else 10),
        n_threads=arguments.threads,
        seed=arguments.seed,
    )
    recorder = _recorder("memory", command, arguments, bundle, n_tokens=plan.n_tokens)
    with _bar(console, memory.N_PARTS) as step:
        memory.measure(recorder, bundle, plan, step)
    _finish(recorder, arguments, console)


def _accuracy(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from tempfile import TemporaryDirectory

    from benchmarks import accuracy

    bundle = _open(arguments, console)
    try:
        texts = [path.read_text(encoding="utf-8") for path in arguments.files]
    except (OSError, UnicodeDecodeError) as exc:
        raise BenchmarkError(f"a text can't be read: {exc}") from exc
    recorder = _recorder("accuracy", command, arguments, bundle)
    with TemporaryDirectory() as folder, _bar(console, 2 * len(accuracy.DTYPES) + 1) as step:
        bundles, notes = accuracy.export_all(bundle, Path(folder), step)
        recorder.notes += notes
        passages = accuracy.list_passages(bundle, texts)
        accuracy.measure(recorder, bundles, passages, arguments.threads, step)
    _finish(recorder, arguments, console)


def _peers(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import throughput
    from benchmarks.goals import PEER_GOALS, check_goals
    from benchmarks.our_backend import our_spec
    from benchmarks.peers import list_tasks, peer_specs
    from benchmarks.subjects import sample_tokens

    bundle = _open(arguments, console)
    rounds = arguments.rounds or (3 if arguments.short else 7)
    spec = bundle.manifest.spec
    plan = throughput.Plan(n_rounds=rounds, n_loads=1, tasks=list_tasks(spec))
    base = _base(arguments, bundle)
    recorder = _recorder("peers", command, arguments, bundle, rounds=rounds)
    peers, skipped = peer_specs(base, bundle)
    recorder.notes += skipped
    specs = [our_spec(base, "ort"), *peers]
    token_ids = sample_tokens(spec.n_vocab, spec.n_ctx, arguments.seed)
    with _bar(console, throughput.n_steps(plan, len(specs))) as step:
        throughput.measure(recorder, specs, token_ids, plan, step)
    recorder.goals = check_goals(PEER_GOALS, recorder.ratios, "any")
    _finish(recorder, arguments, console)


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
        _bar(console, n_systems * len(points)) as step,
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
        _bar(console, len(latencies) * len(regions)) as step,
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
    recorder = _recorder(
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


def _soak(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import soak

    bundle = _open(arguments, console)
    minutes = arguments.minutes or (0.2 if arguments.short else 10.0)
    subjects = [soak.fake_subject()]
    if not arguments.fake:
        name = bundle.manifest.name
        subjects.append(soak.model_subject(name, bundle.folder, arguments.threads))
    recorder = _recorder("soak", command, arguments, bundle, minutes=minutes)
    wrongs: list[str] = []
    with _bar(console, len(subjects) * soak.SAMPLES) as step:
        for subject in subjects:
            found = soak.soak(
                recorder, subject, seconds=60 * minutes, seed=arguments.seed, step=step
            )
            wrongs += [f"{subject.name}: {one}" for one in found]
    recorder.notes += wrongs
    _finish(recorder, arguments, console)
    if wrongs:
        raise BenchmarkError("; ".join(wrongs))


def _faults(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import faults

    settings = {"rounds": arguments.rounds}
    recorder = Recorder(kind="faults", command=command, seed=0, settings=settings)
    with _bar(console, arguments.rounds * len(faults.FAULTS)) as step:
        wrongs = faults.measure(recorder, n_rounds=arguments.rounds, step=step)
    recorder.notes += wrongs
    _finish(recorder, arguments, console)
    if wrongs:
        raise BenchmarkError("; ".join(wrongs))


def _fuzz(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks.fuzz import fuzz
    from benchmarks.fuzz_targets import TARGETS

    names = arguments.target or list(TARGETS)
    settings = {"seconds": arguments.seconds, "targets": names}
    recorder = Recorder(kind="fuzz", command=command, seed=arguments.seed, settings=settings)
    with _bar(console, len(names)) as step:
        found = fuzz(recorder, names, seconds=arguments.seconds, seed=arguments.seed, step=step)
    recorder.notes += found
    _finish(recorder, arguments, console)
    if found:
        raise BenchmarkError("; ".join(found))


def _report(arguments: argparse.Namespace, command: str, console: Console) -> None:
    shown = _page()
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


def _open(arguments: argparse.Namespace, console: Console) -> Bundle:
    return open_bundle(
        arguments.model, arguments.random_124m, lambda text: console.print(text, markup=False)
    )


def _base(arguments: argparse.Namespace, bundle: Bundle) -> SubjectSpec:
    return SubjectSpec(
        name="", maker="", folder=bundle.folder, n_threads=arguments.threads, seed=arguments.seed
    )


def _recorder(
    kind: str, command: str, arguments: argparse.Namespace, bundle: Bundle, **settings: Any
) -> Recorder:
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


def _finish(recorder: Recorder, arguments: argparse.Namespace, console: Console) -> None:
    """Write, show and draw what was measured; what is shown is made from what is written."""
    results = recorder.finish()
    if arguments.output is not None:
        write_results(results, arguments.output)
        console.print(f"written to {arguments.output}", markup=False)
    print_results(_page(), results)
    if arguments.plot is not None:
        draw(results, arguments.plot)


def _page() -> Console:
    """Return stdout; rows stay whole where it is a file."""
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


@contextmanager
def _bar(console: Console, n_steps: int) -> Iterator[Step]:
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
