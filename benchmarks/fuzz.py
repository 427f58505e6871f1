"""Runs the coverage-guided fuzzer over each target for a while, each in a process of its own.

What it finds is written as a file, to be kept in tests/data/fuzz once it is mended. Knows neither
the targets' insides nor how inputs are made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.figures import figure
from benchmarks.fuzz_targets import TARGETS
from benchmarks.results import Recorder

ROOT = Path(__file__).parent.parent
PAST = ROOT / "tests" / "data" / "fuzz"
"""Inputs that once failed: where every run begins."""
LEARNT = ROOT / ".cache" / "fuzz"
"""Inputs that reached new code, from one run to the next."""
FOUND = ROOT / ".cache" / "fuzz-found"
INPUT_S = 10
"""An input that takes longer is a finding. Chosen."""
INPUT_MB = 1024
"""So much memory for the whole process, in MB. Chosen."""
GRACE_S = 120.0
"""Beyond the time for fuzzing; then the process is ended."""


def fuzz(
    recorder: Recorder,
    names: Sequence[str],
    *,
    seconds: int,
    seed: int,
    step: Callable[[str], None],
) -> list[str]:
    """Fuzz targets one after another; add figures to the recorder and return what was found.

    Raises:
        BenchmarkError: there is no fuzzer here, or it does not start.
    """
    if find_spec("atheris") is None:
        raise BenchmarkError("atheris is not installed; install foretype[fuzz] (Linux, macOS)")
    found: list[str] = []
    FOUND.mkdir(parents=True, exist_ok=True)
    for name in names:
        before = set(FOUND.iterdir())
        said = _run(name, seconds, seed)
        n_inputs, peak_mb = read_outcome(said)
        failures = sorted(set(FOUND.iterdir()) - before)
        if not n_inputs and not failures:
            raise BenchmarkError(f"the fuzzer did not start: {said[-500:]}")
        found += [f"{name}: see {path.relative_to(ROOT)}" for path in failures]
        values = {
            "inputs": ("", n_inputs),
            "findings": ("", len(failures)),
            "inputs_kept": ("", len(list((LEARNT / name).iterdir()))),
            "peak_memory": ("MB", peak_mb),
        }
        recorder.figures += [figure(name, key, unit, [n]) for key, (unit, n) in values.items()]
        step(name)
    return found


def read_outcome(said: str) -> tuple[int, int]:
    """Return how many inputs were tried, and the most memory in MB, from libFuzzer's report."""
    counted = re.search(r"number_of_executed_units: (\d+)", said)
    peak = re.search(r"peak_rss_mb:\s+(\d+)", said)
    return (int(counted[1]) if counted else 0, int(peak[1]) if peak else 0)


def _run(name: str, seconds: int, seed: int) -> str:
    if name not in TARGETS:
        raise BenchmarkError(f"no target {name!r}; known: {', '.join(TARGETS)}")
    learnt = LEARNT / name
    learnt.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={seed + 1}",  # 0 would be a seed by the clock.
        f"-timeout={INPUT_S}",
        f"-rss_limit_mb={INPUT_MB}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-print_final_stats=1",
        "-verbosity=1",
        str(learnt),
        str(PAST / name),
    ]
    with tempfile.TemporaryDirectory(prefix="foretype-fuzz-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.fuzz_worker", name, *flags],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": folder},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise BenchmarkError(f"fuzzing {name} did not end in time") from exc
    return done.stdout.decode("utf-8", "replace")
