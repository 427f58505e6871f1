"""How many tokens a prefill runs at once: `python -m benchmarks.chunks`.

Reads one prompt in chunks of several sizes and prints what the whole prompt takes and how long the
longest chunk does, which is what a cancellation waits for. All sizes take turns within each round,
in another order each time. Does not know the server.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.machine import load_average, machine_line
from benchmarks.models import RANDOM_DTYPES, open_bundle
from benchmarks.subjects import sample_tokens
from benchmarks.threads import ratio_text
from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.decoding.generate import PREFILL_CHUNK_TOKENS

SEED = 1
SIZES = (16, 32, 64, 128, 256, 512)
SETTLE_S = 0.05  # As between two variants of threads.


@dataclass(frozen=True, slots=True)
class Row:
    """What one size of chunks took, over all rounds."""

    size: int
    whole_ms: list[float] = field(default_factory=list)
    longest_ms: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table in Markdown."""
    options = _parser().parse_args(arguments)
    bundle = open_bundle(options.model, options.random, lambda text: print(text, file=sys.stderr))
    backend = OrtBackend.load(bundle, BackendOptions(device="cpu", n_threads=options.threads))
    try:
        rows = measure(backend, options.sizes, options.tokens, options.rounds)
    finally:
        backend.close()
    print(f"{bundle.manifest.name}, {bundle.manifest.dtype}; {machine_line()}, seed {SEED}")
    print(f"load average {load_average()} at the end, {options.rounds} rounds:\n")
    print(table(rows, options.tokens))
    return 0


def measure(backend: Backend, sizes: Sequence[int], n_tokens: int, n_rounds: int) -> list[Row]:
    """Return the times of all sizes, which take turns in every round.

    Args:
        backend: runs the network.
        sizes: tokens of a chunk.
        n_tokens: of the prompt, at most `n_ctx`.
        n_rounds: how often each size has its turn.
    """
    token_ids = sample_tokens(backend.spec.n_vocab, n_tokens, SEED)
    rows = [Row(size) for size in sizes]
    for row in rows:
        time_chunks(backend, token_ids, row.size)  # The first pass of a width allocates.
    order = random.Random(SEED)
    for _ in range(n_rounds):
        for row in order.sample(rows, len(rows)):
            time.sleep(SETTLE_S)
            times_ms = time_chunks(backend, token_ids, row.size)
            row.whole_ms.append(sum(times_ms))
            row.longest_ms.append(max(times_ms))
    return rows


def time_chunks(backend: Backend, token_ids: Sequence[int], size: int) -> list[float]:
    """Return how many ms each chunk of a prefill takes."""
    cache = backend.new_cache()
    times_ms = []
    for start in range(0, len(token_ids), size):
        started_s = time.perf_counter()
        backend.forward(token_ids[start : start + size], cache, 0)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    return times_ms


def table(rows: Sequence[Row], n_tokens: int) -> str:
    """Return the rows in Markdown: medians, and the ratio to the size that the server uses."""
    base = next((row for row in rows if row.size == PREFILL_CHUNK_TOKENS), rows[0])
    lines = [
        f"| tokens of a chunk | {n_tokens} tokens, ms | ratio (range) | longest chunk, ms |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row.size}{' (used)' if row.size == PREFILL_CHUNK_TOKENS else ''}",
            f"{statistics.median(row.whole_ms):.3g}",
            ratio_text(row.whole_ms, base.whole_ms),
            f"{statistics.median(row.longest_ms):.3g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks", description=__doc__)
    parser.add_argument("--model", default="", help="bundle; empty: the embedded one")
    parser.add_argument(
        "--random", choices=RANDOM_DTYPES, help="a random GPT-2 of 124M in this dtype instead"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: as the server chooses")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="tokens of a chunk")
    parser.add_argument("--tokens", type=int, default=512, help="of the prompt")
    parser.add_argument("--rounds", type=int, default=15, help="how often all take turns")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
