"""Sizes of chunks are compared over the same tokens."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.chunks import Row, measure, table
from tests.fakes import FAKE_SPEC, FakeBackend


def test_each_size_reads_the_whole_prompt_in_every_round() -> None:
    backend = FakeBackend(spec=replace(FAKE_SPEC, n_ctx=100))
    rows = measure(backend, [30, 100], 100, 2)
    n_readings = 3  # One of them only warms up.
    assert backend.n_prefilled == 2 * 100 * n_readings
    widths = [len(one.token_ids) for one in backend.passes]
    assert (widths.count(30), widths.count(10), widths.count(100)) == (9, 3, 3)
    assert [len(row.whole_ms) for row in rows] == [2, 2]
    assert all(row.longest_ms <= row.whole_ms for row in rows)


def test_the_table_compares_with_the_size_that_is_used() -> None:
    rows = [Row(16, [30.0, 40.0], [1.0, 1.0]), Row(64, [20.0, 20.0], [4.0, 6.0])]
    assert table(rows, 512).splitlines()[2:] == [
        "| 16 | 35 | 1.75 (1.50-2.00) | 1 |",
        "| 64 (used) | 20 | 1.00 (1.00-1.00) | 5 |",
    ]
