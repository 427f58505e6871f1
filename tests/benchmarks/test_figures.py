"""Spreads and ratios."""

import pytest

from benchmarks.figures import as_json, figure, find, percentile, ratio, rounded


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.95, 5.0), ([1.0, 3.0], 0.5, 2.0), ([4.0, 1.0, 3.0, 2.0, 0.0], 0.75, 3.0)],
)
def test_percentile_lies_between_the_ranks(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1)])
def test_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_figure_has_the_whole_spread() -> None:
    one = figure("ort", "decode", "ms/token", [3.0, 1.0, 2.0])
    assert (one.n, one.low, one.median, one.high) == (3, 1.0, 2.0, 3.0)


def test_ratio_is_taken_round_by_round() -> None:
    """The machine was ten times slower in the second round: that changes no ratio."""
    one = ratio("decode", "ort", [1.0, 10.0, 1.5], "pytorch", [2.0, 20.0, 3.0])
    assert (one.low, one.median, one.high, one.n) == (0.5, 0.5, 0.5, 3)


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio("decode", "ort", [1.0, 2.0], "pytorch", [1.0])


def test_json_has_the_digits_that_count_and_no_empty_text() -> None:
    [one] = as_json([figure("ort", "decode", "ms", [1.23456789])])
    assert one["median"] == 1.235
    assert "detail" not in one
    assert rounded(3) == 3


def test_find_wants_subject_and_name() -> None:
    figures = as_json([figure("a", "x", "ms", [1.0]), figure("b", "x", "ms", [2.0])])
    found = find(figures, "b", "x")
    assert found is not None
    assert found["median"] == 2.0
    assert find(figures, "b", "y") is None
