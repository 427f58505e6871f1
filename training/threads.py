"""How many threads to compute with on a machine that has other work to do.

A parallel step waits for its slowest thread, so one busy core makes two threads slower than one.
Knows the load average only; a fixed number is for runs that must be bit-equal.
"""

from __future__ import annotations

import os

# Load beside our own under which a core counts as free, and over which it counts as taken. The gap
# keeps the choice from swinging. Guessed, then watched on a machine with tests running.
FREE_LOAD = 0.4
TAKEN_LOAD = 0.8


def threads_for_load(n_now: int, load: float, n_cores: int) -> int:
    """Return how many threads to go on with.

    Args:
        n_now: threads in use, which the load includes.
        load: runnable processes, averaged over about a minute.
        n_cores: cores of the machine.
    """
    others = max(0.0, load - n_now)
    if others >= TAKEN_LOAD:
        return max(1, n_cores - round(others))
    return n_cores if others <= FREE_LOAD else n_now


def machine_load() -> float:
    """Return the one-minute load average; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
