"""How useful completions are: `quality` on fixed cursors, `replay` by a simulated typist.

Both ask the serving path as users get it, and the baselines beside it, on held-out packages. Files,
cursors, typist and metrics are those of `training`; here they meet the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration import THRESHOLDS, Verdict, choose_threshold, coverage_curve, judge
from benchmarks.errors import BenchmarkError
from benchmarks.figures import percentile
from server.completion.engine import WorkspaceFile
from training.completers import BASELINES, Completer
from training.corpus import read_split
from training.cutpoints import CutPoint, HeldOutFile, choose_cut_points, choose_files
from training.evaluate import measure_lines
from training.metrics import bootstrap, ratio_of_columns
from training.replay import COLUMNS, Suggest, Suggestion, Tally, Typist, replay
from training.served import Served

SYSTEM = "served"
FILE_CHARS = (2000, 40_000)
REGION_LINES = 25
"""Lines that are typed of each file."""
SUFFIX_CHARS = 4000
MEASURED = None
"""Latency of an answer that is seen after as long as it took."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Which held-out files are read, and how much of them."""

    corpus: Path
    split: str = "dev"
    files_per_package: int = 12
    n_points: int = 400
    seed: int = 7

    def files(self) -> list[HeldOutFile]:
        """Return the files of whole packages that no model was trained on.

        Raises:
            BenchmarkError: there is none of the size asked for.
        """
        chosen = choose_files(
            list(read_split(self.corpus, self.split)),
            per_package=self.files_per_package,
            chars=FILE_CHARS,
            seed=self.seed,
        )
        if not chosen:
            raise BenchmarkError(f"{self.corpus} has no {self.split} file of {FILE_CHARS} chars")
        return chosen

    def workspace(self) -> list[WorkspaceFile]:
        """Return all files of the split, as a workspace that the server learns; a file's own copy
        says nothing while it is completed.
        """
        return [
            WorkspaceFile(path=path_of(row["package"], row["path"]), text=row["text"])
            for row in read_split(self.corpus, self.split)
        ]

    def points(self, files: Sequence[HeldOutFile]) -> list[CutPoint]:
        """Return the cursors in these files."""
        return choose_cut_points(files, n_points=self.n_points, seed=self.seed)


def path_of(package: str, path: str) -> str:
    """Return a held-out file's path in the workspace of all packages."""
    return f"{package}/{path}"


def hashes(files: Sequence[HeldOutFile]) -> list[dict[str, str]]:
    """Return what was read, so that another can see whether it is the same."""
    return [
        {
            "file": f"{file.package}/{file.path}",
            "sha256": hashlib.sha256(file.text.encode()).hexdigest(),
        }
        for file in files
    ]


def quality(
    systems: Mapping[str, Served],
    files: Sequence[HeldOutFile],
    points: Sequence[CutPoint],
    step: Step,
) -> dict[str, Any]:
    """Complete the line at every cursor, by what is served and by the baselines.

    Args:
        systems: what is served, by the name in tables; the threshold is chosen for the first.
        files: what the cursors stand in.
        points: where completions are asked for.
        step: called after each cursor and system.
    """
    lines: dict[str, Any] = {}
    verdicts: list[list[Verdict]] = []
    for index, (name, served) in enumerate(systems.items()):
        noted = verdicts if index == 0 else None
        complete = _line_completer(served, files, points, noted, step)
        lines[name] = measure_lines(name, complete, points)
    for name, baseline in BASELINES.items():
        lines[name] = measure_lines(name, baseline, points)
    curve = coverage_curve(verdicts)
    return {
        "lines": lines,
        "n_points": len(points),
        "files": hashes(files),
        "curve": [asdict(point) for point in curve],
        "chosen": asdict(choose_threshold(curve)),
    }


def _line_completer(
    served: Served,
    files: Sequence[HeldOutFile],
    points: Sequence[CutPoint],
    verdicts: list[list[Verdict]] | None,
    step: Step,
) -> Completer:
    """Return a completer that is asked the points in order, and notes what it would have shown."""
    asked = iter(enumerate(points))

    def complete(prefix: str, suffix: str) -> str:
        number, point = next(asked)
        path = path_of(files[point.file].package, files[point.file].path)
        document = f"{path}#{number}"
        answer, _ = served.complete(document, prefix, suffix[:SUFFIX_CHARS], path)
        if verdicts is not None:
            verdicts.append(_verdicts(served, document, point, path))
        served.forget(document)
        step("quality")
        return answer.candidates[0].text.split("\n")[0] if answer.candidates else ""

    return complete


def _verdicts(served: Served, document: str, point: CutPoint, path: str) -> list[Verdict]:
    """Ask again at every threshold; what was generated is there, so the model is asked once."""
    verdicts: list[Verdict] = [None] * len(THRESHOLDS)
    for index, threshold in enumerate(THRESHOLDS):
        with served.showing_from(threshold):
            answer, _ = served.complete(document, point.prefix, point.suffix[:SUFFIX_CHARS], path)
        if not answer.candidates:
            break  # A higher threshold shows no more.
        verdicts[index] = judge(answer.candidates[0].text, point.truth)
    return verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Lines of a file that are typed, between what stands above and below them."""

    document: str
    before: str
    lines: tuple[str, ...]
    after: str


def choose_regions(files: Sequence[HeldOutFile], seed: int) -> list[Region]:
    """Return one region of each file, at a place that the seed decides, in its second half."""
    regions = []
    for index, file in enumerate(files):
        lines = file.text.split("\n")
        n = min(REGION_LINES, max(1, len(lines) // 3))
        rng = np.random.default_rng([seed, index])
        start = int(rng.integers(len(lines) // 2, max(len(lines) // 2, len(lines) - n) + 1))
        regions.append(
            Region(
                document=path_of(file.package, file.path),
                before="".join(line + "\n" for line in lines[:start]),
                lines=tuple(lines[start : start + n]),
                after="\n".join(lines[start + n :]),
            )
        )
    return regions


def replay_all(
    systems: Mapping[str, Served],
    regions: Sequence[Region],
    typist: Typist,
    latency_ms: float | None,
    step: Step,
) -> dict[str, Any]:
    """Type every region with the help of each system that is served, and of each baseline.

    Args:
        systems: what is served, by the name in tables.
        regions: what is typed.
        typist: pace and rule.
        latency_ms: of every answer, or `MEASURED`; baselines then answer at once.
        step: called after each region.
    """
    tallies: dict[str, list[Tally]] = {name: [] for name in (*systems, *BASELINES)}
    for region in regions:
        suggests = {
            name: _served_suggest(served, region, latency_ms) for name, served in systems.items()
        }
        for name, baseline in BASELINES.items():
            suggests[name] = _baseline_suggest(baseline, latency_ms)
        for name, suggest in suggests.items():
            tally = replay(region.before, region.lines, region.after, suggest, typist)
            tallies[name].append(tally)
        for served in systems.values():
            served.forget(region.document)
        step("replay")
    return {name: summarize(own) for name, own in tallies.items()}


def _served_suggest(served: Served, region: Region, latency_ms: float | None) -> Suggest:
    def suggest(prefix: str, suffix: str) -> Suggestion:
        answer, took_ms = served.complete(region.document, prefix, suffix[:SUFFIX_CHARS])
        return Suggestion(
            text=answer.candidates[0].text if answer.candidates else "",
            latency_ms=took_ms if latency_ms is MEASURED else latency_ms,
            is_known=answer.source == "cache",
            # A request that goes on with what an earlier one left decodes the rest only.
            n_tokens=0 if answer.source == "cache" else answer.usage.new_tokens,
        )

    return suggest


def _baseline_suggest(complete: Completer, latency_ms: float | None) -> Suggest:
    return lambda prefix, suffix: Suggestion(
        text=complete(prefix, suffix), latency_ms=latency_ms or 0.0
    )


def summarize(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Return the figures of BENCHMARKS' replay, with 95 % intervals over files."""
    groups = [np.array([tally.row]) for tally in tallies]
    at = {name: COLUMNS.index(name) for name in COLUMNS}

    def saved(rows: np.ndarray) -> float:
        keys, without = rows[:, at["keys"]].sum(), rows[:, at["keys_without"]].sum()
        return float(1 - keys / max(1.0, without))

    def share(above: str, below: str) -> dict[str, float]:
        return asdict(bootstrap(groups, ratio_of_columns(at[above], at[below])))

    latencies = [ms for tally in tallies for ms in tally.accept_latencies_ms]
    return {
        "ksr": asdict(bootstrap(groups, saved)),
        "rocc": share("accepted_chars", "chars"),
        "accepted_of_shown": share("accepts", "shown"),
        "shown_per_line": share("shown", "lines"),
        "quiet_rate": share("quiet_ends", "ends"),
        "flicker_per_line": share("flickers", "lines"),
        "known_share": share("known", "requests"),
        "wasted_share": share("wasted", "decoded"),
        "latency_at_accept_ms": {
            "p50": percentile(latencies, 0.5) if latencies else None,
            "p95": percentile(latencies, 0.95) if latencies else None,
        },
        "n_files": len(tallies),
        "n_keys": sum(tally.keys_without for tally in tallies),
    }


def draw_latencies(by_latency: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw the keystrokes that each system saves over the latency of answers into a PNG.

    Args:
        by_latency: `latency_ms` and `systems` of each replay; measured latencies are left out.
        title: of the picture.
        path: where it is written.

    Raises:
        BenchmarkError: there are no two latencies to draw, or matplotlib is not installed.
    """
    fixed = sorted(
        (one for one in by_latency if one["latency_ms"] is not MEASURED),
        key=lambda one: one["latency_ms"],
    )
    if len(fixed) < 2:
        raise BenchmarkError("a curve over latencies needs two or more, as --latency-ms 0,100,500")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as exc:
        raise BenchmarkError(f"a plot needs matplotlib ({exc})") from exc
    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    latencies = [one["latency_ms"] for one in fixed]
    for name in fixed[0]["systems"]:
        saved = [one["systems"][name]["ksr"] for one in fixed]
        axes.plot(latencies, [ksr["value"] for ksr in saved], "o-", markersize=3, label=name)
        lows, highs = [ksr["low"] for ksr in saved], [ksr["high"] for ksr in saved]
        axes.fill_between(latencies, lows, highs, alpha=0.15)
    axes.set(xlabel="latency of an answer, ms", ylabel="keystrokes saved", title=title)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
