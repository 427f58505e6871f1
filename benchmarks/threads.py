"""How many threads, and whether they spin: `python -m benchmarks.threads`.

Runs the same few tokens with every number of threads, spinning or not, on the machine as it is and
beside busy loops, and prints ratios to the backend's default. All variants take turns within each
round, in another order each time, so that whatever else the machine does meets them alike. Does not
know the server.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.machine import load_average, machine_line
from benchmarks.models import RANDOM_DTYPES, open_bundle
from benchmarks.subjects import sample_tokens
from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.backends.ort_session import default_n_threads
from server.bundle import Bundle

SEED = 1
N_PAST = 128  # tokens before the measured ones: a short file
N_PREFILL = 64
N_DECODE = 8
SETTLE_S = (
    0.05  # after a pass, so that one variant's spinning threads are gone when the next starts
)
BUSY_LOOP = "while True: pass"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the same graph."""

    n_threads: int
    spin_us: int | None
    """How long idle threads busy-wait; None: without end."""

    def __str__(self) -> str:
        if self.n_threads == 1:
            return "1 thread"
        spinning = "spinning" if self.spin_us is None else f"spinning {self.spin_us} us"
        return f"{self.n_threads} threads, {spinning if self.spin_us != 0 else 'no spinning'}"


@dataclass(frozen=True, slots=True)
class Row:
    """What one variant took in one situation, over all rounds."""

    variant: Variant
    prefill_ms: list[float]
    decode_ms: list[float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print tables in Markdown."""
    options = _parser().parse_args(arguments)
    bundle = open_bundle(options.model, options.random, _say)
    counts = sorted({default_n_threads(), *options.threads} - {1})
    default = BackendOptions().spin_us
    spins = sorted({0, default, *options.spin_us})
    variants = [Variant(1, 0), *(Variant(n, spin) for n in counts for spin in (*spins, None))]
    baseline = Variant(default_n_threads(), default if counts else 0)
    print(f"{bundle.manifest.name}, {bundle.manifest.dtype}; {machine_line()}, seed {SEED}\n")
    for n_busy in options.busy:
        with busy_loops(n_busy):
            rows = measure(bundle, variants, options.rounds)
        beside = f"beside {n_busy} busy loop(s)" if n_busy else "the machine as it is"
        print(f"{beside}, load average {load_average()} at the end, {options.rounds} rounds:\n")
        print(table(rows, baseline), end="\n\n")
    return 0


def measure(bundle: Bundle, variants: Sequence[Variant], n_rounds: int) -> list[Row]:
    """Return the times of all variants, which take turns in every round."""
    backends = [OrtBackend.load(bundle, _options(variant)) for variant in variants]
    rows = [Row(variant, [], []) for variant in variants]
    for backend in backends:
        time_passes(backend)  # the first pass allocates
    order, pairs = random.Random(SEED), list(zip(rows, backends, strict=True))
    for round_index in range(n_rounds):
        _say(f"round {round_index + 1} of {n_rounds}")
        for row, backend in order.sample(pairs, len(pairs)):
            time.sleep(SETTLE_S)
            prefill_ms, decode_ms = time_passes(backend)
            row.prefill_ms.append(prefill_ms)
            row.decode_ms.append(decode_ms)
    for backend in backends:
        backend.close()
    return rows


def time_passes(backend: Backend) -> tuple[float, float]:
    """Return ms for `N_PREFILL` tokens at once, and ms per token one by one, after a past."""
    ids = sample_tokens(backend.spec.n_vocab, N_PAST + N_PREFILL + N_DECODE, SEED)
    cache = backend.new_cache()
    backend.forward(ids[:N_PAST], cache, 0)
    started = time.perf_counter()
    backend.forward(ids[N_PAST : N_PAST + N_PREFILL], cache)
    prefilled = time.perf_counter()
    for token_id in ids[-N_DECODE:]:
        backend.forward([token_id], cache)
    return (prefilled - started) * 1e3, (time.perf_counter() - prefilled) * 1e3 / N_DECODE


@contextmanager
def busy_loops(n_loops: int) -> Iterator[None]:
    """Keep cores busy with programs that do nothing else."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(n_loops)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def table(rows: Sequence[Row], baseline: Variant) -> str:
    """Return the rows in Markdown: median ms, and the median and range of ratios per round."""
    base = next(row for row in rows if row.variant == baseline)
    lines = [
        f"| variant | prefill {N_PREFILL}, ms | ratio (range) | decode, ms/token | ratio (range) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row.variant}{' (default)' if row.variant == baseline else ''}",
            f"{statistics.median(row.prefill_ms):.3g}",
            ratio_text(row.prefill_ms, base.prefill_ms),
            f"{statistics.median(row.decode_ms):.3g}",
            ratio_text(row.decode_ms, base.decode_ms),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio_text(times: Sequence[float], base: Sequence[float]) -> str:
    """Return `median (lowest-highest)` of the ratios within each round."""
    ratios = [mine / theirs for mine, theirs in zip(times, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _options(variant: Variant) -> BackendOptions:
    return BackendOptions(
        device="cpu",
        n_threads=variant.n_threads,
        spinning=variant.spin_us is None,
        spin_us=variant.spin_us or 0,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--model", default="", help="bundle; empty: the embedded one")
    parser.add_argument(
        "--random", choices=RANDOM_DTYPES, help="a random GPT-2 of 124M in this dtype instead"
    )
    parser.add_argument("--threads", type=int, nargs="*", default=[], help="further counts to try")
    parser.add_argument("--spin-us", type=int, nargs="*", default=[], help="further times to try")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy loops beside")
    parser.add_argument("--rounds", type=int, default=15, help="how often all take turns")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
