"""The numbers that say how much the memory counts: fitted by `python -m training calibrate`.

Pure; a file's text comes in, and where the file lies is no concern of this module. Does not know
how they are used.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from server.decoding.memory.search import Nearness
from server.decoding.memory.stream import MAX_MATCH_TOKENS

FEATURES = (
    "bias",
    "log_length",
    "length",
    "evidence",
    "agreement",
    "is_unanimous",
    "agreement_by_log_length",
    "share_document",
    "share_open",
    "share_folder",
    "share_imported",
    "network_peak",
    "network_seconds",
)
"""What the weight of the memory depends on; `server.decoding.memory.mixture.features`."""
LENGTH_KNOTS = (2, 3, 4, 6, 8, 12, 16, 24, MAX_MATCH_TOKENS)
"""Match lengths at which the weight of a vote is given; in between, its logarithm is a line."""
VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """How votes are weighed and how much they count; all are logarithms or log-odds.

    The defaults were fitted to the development packages with the embedded model, whose bundle says
    the same.
    """

    length: tuple[float, ...] = (-2.858, -1.388, -0.1, 1.145, 1.862, 1.994, 2.332, 2.425, 2.86)
    """[len(LENGTH_KNOTS)]: of a vote's weight."""
    nearness: tuple[float, ...] = (2.624, 0.817, 1.223, 1.407, 0.458)
    """[len(Nearness)]: of a vote's weight."""
    weight: tuple[float, ...] = (
        -2.992,
        -0.79,
        -0.025,
        0.63,
        1.167,
        0.03,
        1.059,
        -0.92,
        -0.347,
        0.249,
        0.638,
        -0.546,
        0.111,
    )
    """[len(FEATURES)]: of the memory's weight."""
    acceptance: tuple[float, ...] = (-0.868, -0.44, 0.055, 0.379, 0.836, 1.132, 1.443, 1.872, 2.492)
    """[len(LENGTH_KNOTS)]: log-odds that the token after a longest match of that length is right;
    so long are drafts."""

    def __post_init__(self) -> None:
        for name, n in (
            ("length", len(LENGTH_KNOTS)),
            ("nearness", len(Nearness)),
            ("weight", len(FEATURES)),
            ("acceptance", len(LENGTH_KNOTS)),
        ):
            values = getattr(self, name)
            if len(values) != n or not all(
                type(v) in (int, float) and math.isfinite(v) and abs(v) < 1000 for v in values
            ):
                raise ValueError(f"{name} must be {n} numbers between -1000 and 1000")

    @cached_property
    def vote_table(self) -> npt.NDArray[np.float64]:
        """[len(Nearness), MAX_MATCH_TOKENS + 1]: weight of a vote by nearness and match length."""
        lengths = np.interp(np.arange(MAX_MATCH_TOKENS + 1), LENGTH_KNOTS, self.length)
        return np.exp(np.array(self.nearness)[:, None] + lengths)

    @cached_property
    def acceptance_table(self) -> npt.NDArray[np.float64]:
        """[MAX_MATCH_TOKENS + 1]: probability by length of the longest match."""
        odds = np.interp(np.arange(MAX_MATCH_TOKENS + 1), LENGTH_KNOTS, self.acceptance)
        return 1 / (1 + np.exp(-odds))


def read_coefficients(text: str) -> Coefficients:
    """Read coefficients from JSON.

    Raises:
        ValueError: it is no JSON, of another version, or a number is missing or out of range.
    """
    raw = json.loads(text)
    if not isinstance(raw, dict) or raw.get("version") != VERSION:
        raise ValueError(f"expected an object with the version {VERSION}")
    groups = {}
    for name, keys in _NAMES.items():
        values = raw.get(name)
        if not isinstance(values, dict) or set(values) != set(keys):
            raise ValueError(f"{name} must be an object with {', '.join(keys)}")
        groups[name] = tuple(values[key] for key in keys)
    return Coefficients(**groups)


def coefficients_text(coefficients: Coefficients) -> str:
    """Return coefficients as JSON that `read_coefficients` reads back equal."""
    groups = {
        name: dict(zip(keys, getattr(coefficients, name), strict=True))
        for name, keys in _NAMES.items()
    }
    return json.dumps({"version": VERSION} | groups, indent=1) + "\n"


_KNOT_NAMES = tuple(str(knot) for knot in LENGTH_KNOTS)
_NAMES = {
    "length": _KNOT_NAMES,
    "nearness": tuple(member.name.lower() for member in Nearness),
    "weight": FEATURES,
    "acceptance": _KNOT_NAMES,
}
assert set(_NAMES) == {f.name for f in fields(Coefficients)}
