"""Threads give way to other work at once, and come back when it is done."""

from __future__ import annotations

import pytest

from training import threads
from training.threads import OtherWork, threads_beside


@pytest.mark.parametrize(
    ("n_now", "n_others", "expected"),
    [(1, 0.0, 2), (2, 0.15, 2), (1, 0.15, 1), (2, 0.2, 1), (2, 1.0, 1), (1, 1.9, 1)],
)
def test_threads_give_way_to_other_work(n_now: int, n_others: float, expected: int) -> None:
    assert threads_beside(n_now, n_others, n_cores=2) == expected


def test_other_work_is_what_the_machine_does_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([(0.0, 100.0, 10.0), (1.0, 101.0, 11.0), (10.0, 115.0, 20.0)])
    monkeypatch.setattr(threads, "_now", lambda: next(moments))
    others = OtherWork()
    assert others.n_cores() is None  # It was just asked.
    assert others.n_cores() == pytest.approx(0.5)


def test_this_machine_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SHORTEST_LOOK_S", 0.0)
    n_cores = OtherWork().n_cores()
    assert n_cores is not None
    assert n_cores >= 0.0
