"""How useful completions are: `quality` on fixed cursors, `replay` by a simulated typist.

Both ask the serving path as users get it, and the baselines beside it, on held-out packages. Files,
cursors, typist and metrics are those of `training`; here they meet the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration import THRESHOLDS, Verdict, choose_threshold, coverage_curve, judge
from benchmarks.errors import BenchmarkError
from benchmarks.figures import percentile
from benchmarks.served import Served
from training.completers import BASELINES, Completer
from training.corpus import read_split
from training.cutpoints import CutPoint, HeldOutFile, choose_cut_points, choose_files
from training.evaluate import measure_lines
from training.metrics import bootstrap, ratio_of_columns
from training.replay import COLUMNS, Suggest, Suggestion, Tally, Typist, replay

SYSTEM = "served"
FILE_CHARS = (2000, 40_000)
REGION_LINES = 25
"""Lines that are typed of each file."""
SUFFIX_CHARS = 4000

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

    def points(self, files: Sequence[HeldOutFile]) -> list[CutPoint]:
        """Return the cursors in these files."""
        return choose_cut_points(files, n_points=self.n_points, seed=self.seed)


def quality(
    served: Served, files: Sequence[HeldOutFile], points: Sequence[CutPoint], step: Step
) -> dict[str, Any]:
    """Complete the line at every cursor, by the server and by the baselines."""
    verdicts: list[list[Verdict]] = []

    def complete(prefix: str, suffix: str) -> str:
        point = points[len(asked)]
        asked.append(point)
        document = f"{files[point.file].path}#{len(asked)}"
        answer, _ = served.complete(document, prefix, suffix[:SUFFIX_CHARS])
        verdicts.append(_verdicts(served, document, point))
        served.forget(document)
        step("quality")
        return answer.candidates[0].text.split("\n")[0] if answer.candidates else ""

    asked: list[CutPoint] = []
    lines = {SYSTEM: measure_lines(SYSTEM, complete, points)}
    for name, baseline in BASELINES.items():
        lines[name] = measure_lines(name, baseline, points)
    curve = coverage_curve(verdicts)
    return {
        "lines": lines,
        "n_points": len(points),
        "curve": [asdict(point) for point in curve],
        "chosen": asdict(choose_threshold(curve)),
    }


def _verdicts(served: Served, document: str, point: CutPoint) -> list[Verdict]:
    """Ask again at every threshold; what was generated is there, so the model is asked once."""
    verdicts: list[Verdict] = [None] * len(THRESHOLDS)
    for index, threshold in enumerate(THRESHOLDS):
        with served.showing_from(threshold):
            answer, _ = served.complete(document, point.prefix, point.suffix[:SUFFIX_CHARS])
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
                document=f"{file.package}/{file.path}",
                before="".join(line + "\n" for line in lines[:start]),
                lines=tuple(lines[start : start + n]),
                after="\n".join(lines[start + n :]),
            )
        )
    return regions


def replay_all(
    served: Served,
    regions: Sequence[Region],
    typist: Typist,
    latency_ms: float | None,
    step: Step,
) -> dict[str, Any]:
    """Type every region with the server's help, and with each baseline's.

    Args:
        served: the server.
        regions: what is typed.
        typist: pace and rule.
        latency_ms: of every answer; None takes what was measured.
        step: called after each region.
    """
    suggests: dict[str, Callable[[Region], Suggest]] = {
        SYSTEM: lambda region: _served_suggest(served, region, latency_ms)
    }
    for name, baseline in BASELINES.items():
        suggests[name] = lambda _, ask=baseline: _baseline_suggest(ask, latency_ms)
    tallies: dict[str, list[Tally]] = {name: [] for name in suggests}
    for region in regions:
        for name, make in suggests.items():
            tally = replay(region.before, region.lines, region.after, make(region), typist)
            tallies[name].append(tally)
        served.forget(region.document)
        step("replay")
    return {name: summarize(own) for name, own in tallies.items()}


def _served_suggest(served: Served, region: Region, latency_ms: float | None) -> Suggest:
    def suggest(prefix: str, suffix: str) -> Suggestion:
        answer, took_ms = served.complete(region.document, prefix, suffix[:SUFFIX_CHARS])
        return Suggestion(
            text=answer.candidates[0].text if answer.candidates else "",
            latency_ms=took_ms if latency_ms is None else latency_ms,
            is_known=answer.source == "cache",
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
        "latency_at_accept_ms": {
            "p50": percentile(latencies, 0.5) if latencies else None,
            "p95": percentile(latencies, 0.95) if latencies else None,
        },
        "n_files": len(tallies),
        "n_keys": sum(tally.keys_without for tally in tallies),
    }
