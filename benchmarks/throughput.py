"""Prefill, decode and verification of the backends, interleaved: how fast, how near to the roof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, Ratio, figure, ratio
from benchmarks.machine import read_bandwidth, read_device_bandwidth
from benchmarks.results import Recorder
from benchmarks.subjects import SubjectProcess, SubjectSpec, Task
from server.manifest import ModelSpec

PROMPTS = (64, 256, 512, 1000)
DECODE_TOKENS = 16
VERIFY_TOKENS = 8
LINE_TOKENS = 12
"""A line of code, or most of one. Guessed."""
NOISY = 3.0
"""Between the slowest and the quickest round; a subject's own figures then say little."""

Step = Callable[[str], None]
Values = dict[tuple[str, Task], list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often what is measured."""

    n_rounds: int
    n_loads: int
    tasks: tuple[Task, ...]


def list_tasks(spec: ModelSpec) -> tuple[Task, ...]:
    """Return the tasks that a context has room for; the longest prompt shrinks to what fits."""
    prompts = sorted({min(n, spec.n_ctx - 1) for n in PROMPTS if n <= spec.n_ctx})
    n_past = min(256, spec.n_ctx - DECODE_TOKENS - 1)
    return (
        *(Task(name="prefill", n_prompt=n) for n in prompts),
        Task(name="decode", n_prompt=n_past, n_new=DECODE_TOKENS),
        Task(name="verify", n_prompt=n_past, n_new=VERIFY_TOKENS),
        Task(name="line", n_prompt=n_past, n_new=min(LINE_TOKENS, DECODE_TOKENS)),
    )


def n_steps(plan: Plan, n_subjects: int) -> int:
    """Return how often `step` will be called."""
    return n_subjects * (plan.n_loads + plan.n_rounds * len(plan.tasks))


def measure(
    recorder: Recorder,
    specs: Sequence[SubjectSpec],
    token_ids: Sequence[int],
    plan: Plan,
    step: Step,
) -> None:
    """Measure subjects in turn and record figures and ratios to the first of them.

    A subject that does not load or fails is named in the notes and left out.

    Raises:
        BenchmarkError: none is left.
    """
    roofs = [_read_bandwidth(specs[0])]
    running, loads = _load(recorder, specs, token_ids, plan, step)
    try:
        values = _run_rounds(recorder, running, plan, step)
        roofs.append(_read_bandwidth(specs[0]))
        recorder.figures += [
            figure("machine", "read_bandwidth", "GB/s", [roof / 1e9 for roof in roofs]),
            *_figures(running, values, loads, max(roofs)),
        ]
        recorder.ratios += _ratios([spec.name for spec in specs], values, plan)
        recorder.notes += noise_notes(recorder.figures)
        recorder.raw["subjects"] = {p.spec.name: p.description for p in running}
    finally:
        for process in running:
            process.close()
    if not values:
        raise BenchmarkError("; ".join(recorder.notes) or "nothing was measured")


def _read_bandwidth(spec: SubjectSpec) -> float:
    """Return the bytes per second that can be read where subjects run."""
    return read_bandwidth(spec.n_threads) if spec.device == "cpu" else read_device_bandwidth()


def _load(
    recorder: Recorder,
    specs: Sequence[SubjectSpec],
    token_ids: Sequence[int],
    plan: Plan,
    step: Step,
) -> tuple[list[SubjectProcess], dict[str, list[float]]]:
    """Start each subject several times in turn; the last start is kept."""
    running: dict[str, SubjectProcess] = {}
    loads: dict[str, list[float]] = {}
    broken: set[str] = set()
    for _ in range(plan.n_loads):
        for spec in specs:
            step(f"loading {spec.name}")
            if spec.name in broken:
                continue
            if spec.name in running:
                running.pop(spec.name).close()
            try:
                process = SubjectProcess(spec, token_ids)
            except BenchmarkError as exc:
                recorder.notes.append(f"skipped: {exc}")
                broken.add(spec.name)
                continue
            running[spec.name] = process
            loads.setdefault(spec.name, []).append(process.description["load_ms"])
    return list(running.values()), loads


def _run_rounds(
    recorder: Recorder, running: list[SubjectProcess], plan: Plan, step: Step
) -> Values:
    """Let every subject do every task in every round; the first round only warms up."""
    values: Values = {}
    for n_round in range(-1, plan.n_rounds):
        for task in plan.tasks:
            for process in list(running):
                name = process.spec.name
                if n_round >= 0:
                    step(f"{name}: {task.figure[0]}")
                try:
                    ms = process.run(task)
                except BenchmarkError as exc:
                    recorder.notes.append(f"left out: {exc}")
                    running.remove(process)
                    for key in [key for key in values if key[0] == name]:
                        del values[key]
                    continue
                if ms is not None and n_round >= 0:
                    values.setdefault((name, task), []).append(ms)
    return values


def _figures(
    running: Sequence[SubjectProcess],
    values: Values,
    loads: dict[str, list[float]],
    roof: float,
) -> list[Figure]:
    figures = []
    for process in running:
        name = process.spec.name
        figures.append(figure(name, "load", "ms", loads[name], "import of its runtime included"))
        for (subject, task), ms in values.items():
            if subject != name:
                continue
            figures.append(figure(name, *task.figure, ms, _detail(task)))
            if task.name == "decode":
                figures += decode_figures(name, ms, process.description.get("weight_bytes"), roof)
        memory = process.memory()
        figures.append(figure(name, "peak_memory", "MB", [memory["peak_mb"]]))
    return figures


def decode_figures(
    subject: str, decode_ms: Sequence[float], weight_bytes: int | None, roof: float
) -> list[Figure]:
    """Return tokens/s and, where the bytes per token are known, GB/s and the share of the roof.

    Args:
        subject: whose.
        decode_ms: per token.
        weight_bytes: read per token; the KV cache is not counted.
        roof: bytes per second that the machine reads. Weights that fit into the processor's cache
            may lie above it.
    """
    figures = [figure(subject, "tokens_per_s", "1/s", [1e3 / ms for ms in decode_ms])]
    if weight_bytes is not None:
        rates = [weight_bytes / (ms / 1e3) for ms in decode_ms]
        detail = f"{weight_bytes / 1e6:.1f} MB of weights per token"
        figures += [
            figure(subject, "read_rate", "GB/s", [rate / 1e9 for rate in rates], detail),
            figure(subject, "share_of_bandwidth", "", [rate / roof for rate in rates]),
        ]
    return figures


def _ratios(names: Sequence[str], values: Values, plan: Plan) -> list[Ratio]:
    """Compare the first subject with each of the others, task by task."""
    return [
        ratio(task.figure[0], names[0], values[names[0], task], other, values[other, task])
        for other in names[1:]
        for task in plan.tasks
        if (names[0], task) in values and (other, task) in values
    ]


def _detail(task: Task) -> str:
    match task.name:
        case "prefill":
            return ""
        case "line":
            return f"{task.n_new} tokens; all but the last of {task.n_prompt} were seen before"
        case _:
            return f"after {task.n_prompt} tokens"


def noise_notes(figures: Sequence[Figure]) -> list[str]:
    """Return a warning for each time whose rounds differ more than subjects do."""
    return [
        f"{one.subject} {one.name} varied {one.high / one.low:.1f}-fold between the rounds"
        for one in figures
        if one.unit.startswith("ms") and one.name != "load" and one.high > NOISY * one.low > 0
    ]
