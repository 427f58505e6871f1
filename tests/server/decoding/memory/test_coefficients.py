"""Coefficients as JSON."""

from __future__ import annotations

import json

import pytest

from server.decoding.memory.coefficients import (
    LENGTH_KNOTS,
    Coefficients,
    coefficients_text,
    read_coefficients,
)


def test_coefficients_are_read_back_equal():
    coefficients = Coefficients(nearness=(4.0, 3.0, 2.0, 1.5, 1.0))
    assert read_coefficients(coefficients_text(coefficients)) == coefficients


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 1}, "version"),
        ({"length": None}, "length"),
        ({"weight": {"bias": 1.0}}, "weight must be"),
        (
            {"nearness": {"document": 1, "open": 1, "folder": 1, "imported": 1, "rest": "x"}},
            "5 numbers",
        ),
        (
            {"nearness": {"document": 1, "open": 1, "folder": 1, "imported": 1, "rest": 1e9}},
            "5 numbers",
        ),
        (
            {
                "nearness": {
                    "document": 1,
                    "open": 1,
                    "folder": 1,
                    "imported": 1,
                    "rest": float("nan"),
                }
            },
            "5 numbers",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(change: dict, reason: str):
    raw = json.loads(coefficients_text(Coefficients())) | change
    with pytest.raises(ValueError, match=reason):
        read_coefficients(json.dumps(raw))


def test_what_is_no_object_is_refused():
    with pytest.raises(ValueError, match="object"):
        read_coefficients("[]")


def test_between_two_lengths_weights_are_interpolated():
    table = Coefficients(nearness=(0.0,) * 5).vote_table
    knots = [table[0, knot] for knot in LENGTH_KNOTS]
    assert knots == sorted(knots)
    assert table[0, 4] < table[0, 5] < table[0, 6]
