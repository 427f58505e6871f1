"""How fast: backends, keystrokes, where the time goes, the memory's cost, other programs."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.commands.running import (
    add_device,
    add_measuring,
    bar,
    base_spec,
    finish,
    open_asked,
    recorder_of,
)

if TYPE_CHECKING:
    from benchmarks.commands.running import Commands

TYPED = Path(inspect.getfile(argparse))


def add(commands: Commands) -> None:
    """Add the commands."""
    throughput = commands.add_parser("throughput", help="prefill, decode, memory of the backends")
    throughput.set_defaults(run=_throughput)
    add_measuring(throughput)
    add_device(throughput)
    throughput.add_argument(
        "--backends", default="ort,pytorch", metavar="NAME,...", help="measured in turn"
    )

    latency = commands.add_parser("latency", help="keystrokes through a real server; start-up")
    latency.set_defaults(run=_latency)
    add_measuring(latency)
    _add_typing(latency, "typed at that pace, then slowly")

    profile = commands.add_parser("profile", help="where the time of a request goes")
    profile.set_defaults(run=_profile)
    add_measuring(profile)
    _add_typing(profile, "that are typed")

    memory = commands.add_parser("memory", help="what the memory of the workspace costs")
    memory.set_defaults(run=_memory)
    add_measuring(memory)
    memory.add_argument("--tokens", type=int, default=2_000_000, help="of the workspace")
    memory.add_argument("--folder", type=Path, help="whose Python files are the workspace instead")

    peers = commands.add_parser("peers", help="the same weights in other programs")
    peers.set_defaults(run=_peers)
    add_measuring(peers)
    add_device(peers)

    servers = commands.add_parser("servers", help="a line from real servers: ours, llama.cpp's")
    servers.set_defaults(run=_servers)
    add_measuring(servers)
    _add_file(servers)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, default=TYPED, help="the file that is typed")


def _add_typing(parser: argparse.ArgumentParser, lines_help: str) -> None:
    _add_file(parser)
    parser.add_argument("--interval-ms", type=int, default=150, help="between two keys")
    parser.add_argument("--lines", type=int, default=0, help=lines_help)


def _throughput(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import throughput
    from benchmarks.our_backend import captured_specs, our_spec
    from benchmarks.subjects import sample_tokens

    bundle = open_asked(arguments, console)
    rounds = arguments.rounds or (3 if arguments.short else 7)
    plan = throughput.Plan(
        n_rounds=rounds,
        n_loads=min(rounds, 3),
        tasks=throughput.list_tasks(bundle.manifest.spec),
    )
    base = base_spec(arguments, bundle)
    specs = [our_spec(base, name) for name in arguments.backends.split(",") if name]
    specs += captured_specs(base)
    recorder = recorder_of("throughput", command, arguments, bundle, rounds=rounds)
    spec = bundle.manifest.spec
    token_ids = sample_tokens(spec.n_vocab, spec.n_ctx, arguments.seed)
    with bar(console, throughput.n_steps(plan, len(specs))) as step:
        throughput.measure(recorder, specs, token_ids, plan, step)
    finish(recorder, arguments, console)


def _latency(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import scenario
    from benchmarks.goals import LATENCY_GOALS, Model, check_goals

    bundle = open_asked(arguments, console)
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
    recorder = recorder_of(
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
    with bar(console, scenario.n_steps(passage, plan)) as step:
        scenario.run(recorder, bundle, plan, step)
    kind: Model = "124m" if plan.is_random else "any" if arguments.model else "embedded"
    recorder.goals = check_goals(LATENCY_GOALS, [*recorder.figures, *recorder.ratios], kind)
    finish(recorder, arguments, console)


def _profile(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import profile, scenario

    bundle = open_asked(arguments, console)
    n_lines = arguments.lines or (4 if arguments.short else 20)
    passage = scenario.find_passage(arguments.file.read_text(encoding="utf-8"), n_lines)
    settings = {"threads": arguments.threads}
    recorder = recorder_of(
        "profile",
        command,
        arguments,
        bundle,
        file=arguments.file.name,
        interval_ms=arguments.interval_ms,
        n_lines=n_lines,
    )
    with bar(console, len(passage.quick)) as step:
        profile.measure(
            recorder, bundle, arguments.file, passage, settings, arguments.interval_ms, step
        )
    finish(recorder, arguments, console)


def _memory(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import memory
    from server.decoding.memory.speedups import IS_COMPILED

    bundle = open_asked(arguments, console)
    plan = memory.MemoryPlan(
        n_tokens=arguments.tokens,
        folder=arguments.folder,
        n_rounds=arguments.rounds or (1 if arguments.short else 5),
        n_threads=arguments.threads,
        seed=arguments.seed,
    )
    folder = arguments.folder
    workspace = {"n_tokens": plan.n_tokens} if folder is None else {"folder": folder.name}
    workspace["compiled"] = IS_COMPILED
    recorder = recorder_of("memory", command, arguments, bundle, **workspace)
    with bar(console, plan.n_rounds + memory.N_PARTS) as step:
        memory.measure(recorder, bundle, plan, step)
    finish(recorder, arguments, console)


def _peers(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import throughput
    from benchmarks.goals import GPU_GOALS, PEER_GOALS, Model, check_goals
    from benchmarks.our_backend import captured_specs, our_spec
    from benchmarks.peers import list_tasks, peer_specs
    from benchmarks.subjects import sample_tokens

    bundle = open_asked(arguments, console)
    rounds = arguments.rounds or (3 if arguments.short else 7)
    spec = bundle.manifest.spec
    plan = throughput.Plan(n_rounds=rounds, n_loads=1, tasks=list_tasks(spec))
    base = base_spec(arguments, bundle)
    recorder = recorder_of("peers", command, arguments, bundle, rounds=rounds)
    peers, skipped = peer_specs(base, bundle)
    recorder.notes += skipped
    specs = [our_spec(base, "ort"), *captured_specs(base), *peers]
    token_ids = sample_tokens(spec.n_vocab, spec.n_ctx, arguments.seed)
    with bar(console, throughput.n_steps(plan, len(specs))) as step:
        throughput.measure(recorder, specs, token_ids, plan, step)
    goals = PEER_GOALS if arguments.device == "cpu" else GPU_GOALS
    kind: Model = "124m" if arguments.random_124m is not None else "any"
    recorder.goals = check_goals(goals, [*recorder.figures, *recorder.ratios], kind)
    finish(recorder, arguments, console)


def _servers(arguments: argparse.Namespace, command: str, console: Console) -> None:
    from benchmarks import servers
    from benchmarks.goals import INSTALLED_GOALS, SERVER_GOALS, check_goals

    bundle = open_asked(arguments, console)
    is_random = arguments.random_124m is not None
    rounds = arguments.rounds or (4 if arguments.short else 24)
    recorder = recorder_of(
        "servers", command, arguments, bundle, rounds=rounds, file=arguments.file.name
    )
    with bar(console, servers.n_steps(rounds)) as step:
        servers.measure(
            recorder,
            bundle,
            arguments.file.read_text(encoding="utf-8"),
            n_places=rounds,
            n_threads=arguments.threads,
            is_random=is_random,
            step=step,
        )
    goals = SERVER_GOALS if is_random else (*INSTALLED_GOALS, *SERVER_GOALS)
    recorder.goals = check_goals(goals, recorder.ratios, "any")
    finish(recorder, arguments, console)
