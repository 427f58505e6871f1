"""How many threads to compute with on a machine that has other work to do.

A parallel step waits for its slowest thread, so one busy core makes two threads slower than one.
Knows processor time only; a fixed number of threads is for runs that must be bit-equal.
"""

from __future__ import annotations

import os
import time

import psutil

# Cores that others use under which a core counts as free, and over which it counts as taken. The
# gap keeps the choice from swinging; the second is low, because who competes with a run of a higher
# priority gets little. Chosen by watching a run beside tests.
FREE_CORES = 0.1
TAKEN_CORES = 0.2
# Between two looks; shorter ones are mostly the granularity of the system's clock.
SHORTEST_LOOK_S = 2.0


def threads_beside(n_now: int, n_others: float, n_cores: int) -> int:
    """Return how many threads to go on with.

    Args:
        n_now: threads in use.
        n_others: cores that other processes use.
        n_cores: cores of the machine.
    """
    if n_others >= TAKEN_CORES:
        return min(n_now, max(1, n_cores - max(1, round(n_others))))
    return n_cores if n_others <= FREE_CORES else n_now


class OtherWork:
    """Watches how many cores the rest of the machine uses."""

    def __init__(self) -> None:
        self._before = _now()

    def n_cores(self) -> float | None:
        """Return the cores that others used since the last answer; None if that was just now."""
        now = _now()
        elapsed_s, busy_s, own_s = (a - b for a, b in zip(now, self._before, strict=True))
        if elapsed_s < SHORTEST_LOOK_S:
            return None
        self._before = now
        return max(0.0, (busy_s - own_s) / elapsed_s)


def _now() -> tuple[float, float, float]:
    """Return the time, processor seconds of the machine, and our own."""
    all_cores = psutil.cpu_times()
    idle_s = all_cores.idle + getattr(all_cores, "iowait", 0.0)
    own = os.times()
    return time.monotonic(), sum(all_cores) - idle_s, own.user + own.system
