"""What is done for each token: compiled, where a compiler was found at the installation, or plain.

Both find the same places and mix the same, but for the rounding of their sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.backends.predictions import LogProbs
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.mixture import Mixer
from server.decoding.memory.search import Places, Search, Source

try:
    from server.decoding.memory import _speedups
except ImportError:
    IS_COMPILED = False
else:
    IS_COMPILED = True


class Searches(Protocol):
    """See `server.decoding.memory.search.Search`."""

    def find(self, context: Sequence[int]) -> Places:
        """Return the places that agree best with the end of a context."""


class Mixes(Protocol):
    """See `server.decoding.memory.mixture.Mixer`."""

    def mix(self, places: Places, log_probs: LogProbs) -> tuple[LogProbs, float]:
        """Return the mixture and the weight of the memory in it."""

    def likeliest(self, places: Places) -> int:
        """Return the token that most votes are for."""


def make_search(sources: Sequence[Source]) -> Searches:
    """Line up at least one source."""
    return _speedups.Search(sources) if IS_COMPILED else Search(sources)


def make_mixer(coefficients: Coefficients) -> Mixes:
    """Return what mixes places that were found by a search of `make_search`."""
    return _speedups.Mixer(coefficients) if IS_COMPILED else Mixer(coefficients)
