"""What the process asks of its system really happens, and ends where it should."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import threading

import psutil
import pytest

from server.process import HANDOVER_S, NICENESS, handing_over_soon, lower_priority

TIMEOUT_S = 30


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_giving_memory_back_gives_pages_back() -> None:
    """A fresh process: what others freed before must not count."""
    program = """
import psutil
from server.process import give_memory_back
kept = [bytes(50_000) for _ in range(2_000)]
last = bytes(50_000)  # Above all the others, so that the heap does not end with them.
del kept
full = psutil.Process().memory_info().rss
give_memory_back()
assert psutil.Process().memory_info().rss < full - 50_000_000
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=TIMEOUT_S)


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere threads have no priority of their own"
)
def test_one_thread_yields_and_the_others_do_not() -> None:
    nicenesses = []

    def work() -> None:
        lower_priority()
        nicenesses.append(psutil.Process(threading.get_native_id()).nice())

    before = psutil.Process().nice()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert nicenesses == [NICENESS]
    assert psutil.Process().nice() == before


def test_the_interpreter_is_handed_over_as_usual_afterwards() -> None:
    usual_s = sys.getswitchinterval()
    with contextlib.suppress(ZeroDivisionError), handing_over_soon():
        assert sys.getswitchinterval() == pytest.approx(HANDOVER_S)
        1 / 0  # noqa: B018
    assert sys.getswitchinterval() == usual_s
