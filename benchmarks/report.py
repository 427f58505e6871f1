"""Tables and plots made from results files; the only home of how results look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.errors import BenchmarkError
from benchmarks.results import Change

MISSED = "MISSED"


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print what was measured, on what, and the goals."""
    machine, load = results["machine"], results["load_average"]
    commit = results["commit"][:12] + (" with changes" if results["has_changes"] else "")
    console.print(f"[bold]{results['kind']}[/] {results['started']}, commit {commit or 'unknown'}")
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, load average {load['before']:g} to "
        f"{load['after']:g}, seed {results['seed']}"
    )
    settings = ", ".join(f"{name}={value}" for name, value in results["settings"].items())
    console.print(f"{settings}\n{results['command']}", markup=False)
    console.print(figure_table(results["figures"]))
    if results["ratios"]:
        console.print(ratio_table(results["ratios"]))
    if results["goals"]:
        console.print(goal_table(results["goals"]))
    for note in results["notes"]:
        console.print(f"- {note}", markup=False)


def figure_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the figures, one per row."""
    table = _table("subject", "what", "median", "p95", "lowest", "highest", "unit", "n", "detail")
    for one in figures:
        numbers = [plain(one[name]) for name in ("median", "p95", "low", "high")]
        row = [one["subject"], one["name"], *numbers, one.get("unit", "")]
        table.add_row(*row, str(one["n"]), one.get("detail", ""))
    return table


def ratio_table(ratios: Sequence[Mapping[str, Any]]) -> Table:
    """Return the ratios, one per row; under 1 the first subject is quicker."""
    table = _table("what", "subject", "over", "median ratio", "lowest", "highest", "n")
    for one in ratios:
        numbers = [plain(one[name]) for name in ("median", "low", "high")]
        table.add_row(one["name"], one["subject"], one["over"], *numbers, str(one["n"]))
    return table


def print_goals(console: Console, goals: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print the goals of several results files, by their names."""
    for name, own in goals.items():
        if own:
            console.print(name, style="bold", markup=False)
            console.print(goal_table(own))


def goal_table(goals: Sequence[Mapping[str, Any]]) -> Table:
    """Return what was to be reached beside what was."""
    table = _table("goal", "reached", "")
    for one in goals:
        mark = "[green]met[/]" if one["is_met"] else f"[red]{MISSED}[/]"
        if one["is_met"] is None:
            mark = "not measured"
        table.add_row(one["goal"], one["reached"], mark)
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """Return what changed between two files."""
    table = _table("subject", "what", "before", "after", "unit", "ratio", "")
    for one in changes:
        clear = "" if one.is_clear else "ranges overlap"
        numbers = plain(one.before), plain(one.after), one.unit, plain(one.ratio)
        table.add_row(one.subject, one.name, *numbers, clear)
    return table


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the times as bars, medians with the range, into a PNG.

    Raises:
        BenchmarkError: matplotlib is not installed, or nothing can be drawn.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as exc:
        raise BenchmarkError(
            f"a plot needs matplotlib ({exc}); install foretype[training] or leave --plot out"
        ) from exc
    times = [one for one in results["figures"] if one.get("unit", "").startswith("ms")]
    if not times:
        raise BenchmarkError("these results have no times to draw")
    names = list(dict.fromkeys(one["name"] for one in times))
    subjects = list(dict.fromkeys(one["subject"] for one in times))
    figure, axes = pyplot.subplots(figsize=(1.2 * len(names) * max(1, len(subjects) / 3) + 3, 5))
    width = 0.8 / len(subjects)
    for index, subject in enumerate(subjects):
        own = [one for one in times if one["subject"] == subject]
        places = [names.index(one["name"]) + (index + 0.5) * width - 0.4 for one in own]
        medians = [one["median"] for one in own]
        below = [one["median"] - one["low"] for one in own]
        above = [one["high"] - one["median"] for one in own]
        bars = axes.bar(places, medians, width, yerr=(below, above), capsize=2, label=subject)
        axes.bar_label(bars, [plain(value) for value in medians], fontsize=7, padding=2)
    axes.set_yscale("log")
    axes.set_ylabel("ms (median; the line is the range)")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_title(f"{results['kind']}: {results['settings'].get('model', '')}")
    axes.legend()
    figure.text(0.01, 0.01, _footer(results), fontsize=6)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def plain(value: float) -> str:
    """Return a number as a person reads it: three digits that count, no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _footer(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{results['commit'][:12]}, {results['started']}, {machine['processor']}, "
        f"{machine['cores']} cores, load {results['load_average']['after']:g}"
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE)
    numbers = {"median", "p95", "lowest", "highest", "n", "before", "after", "ratio"}
    for name in columns:
        is_number = name in numbers or name == "median ratio"
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    return table
