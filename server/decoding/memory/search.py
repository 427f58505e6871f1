"""Where a context stood before, in all that can be asked at one moment: the plain way, with numpy.

Pure. What it costs is the number of steps, so each is taken over all sources together. `_speedups`
finds the same, compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from server.decoding.memory.stream import IntArray, Key, Stream, Surroundings

MIN_MATCH_TOKENS = 2  # A single token may be followed by almost anything. Guessed.
# Places that are kept, the longest matches of each source: more cost time and say little. Guessed.
MAX_PLACES = 32
MAX_SCANNED = 128  # Places that are looked at where there is no order. Guessed.


class Nearness(IntEnum):
    """How near the source of a match is to the cursor."""

    DOCUMENT = 0
    """The document itself, above the cursor or below it."""
    OPEN = 1
    """Open in the editor, or changed since it was first learned."""
    FOLDER = 2
    """In the document's folder."""
    IMPORTED = 3
    """Imported by the document."""
    REST = 4


class Searched(Protocol):
    """A stream whose places can be found by what leads to them."""

    @property
    def stream(self) -> Stream:
        """The texts."""

    @property
    def order(self) -> npt.NDArray[np.int32] | None:
        """[n_tokens]: all places, sorted by what leads to them; None: they are not sorted."""

    def nearest(self, key: Key, n_most: int) -> IntArray:
        """Return at most so many places that may agree: [M]."""


class Source(NamedTuple):
    """What is searched, and who speaks there."""

    searched: Searched
    nearness: IntArray
    """[n_texts]: how near each text is; below 0: it says nothing."""


class Match(NamedTuple):
    """One place that agrees."""

    length: int
    """How many tokens agree."""
    next_id: int
    """The token that stands there."""
    nearness: int
    """A member of `Nearness`."""
    place: int
    """Where in the source's stream."""


class Places(Protocol):
    """Places that agree in at least `MIN_MATCH_TOKENS`, source after source; each array is [M]."""

    @property
    def n_matches(self) -> int:
        """M."""

    @property
    def longest(self) -> int:
        """How many tokens agree at most; 0 if there are no places."""

    @property
    def lengths(self) -> IntArray:
        """How many tokens agree."""

    @property
    def next_ids(self) -> IntArray:
        """The tokens that stand there."""

    @property
    def nearness(self) -> IntArray:
        """Members of `Nearness`."""

    @property
    def places(self) -> IntArray:
        """Where in their sources' streams."""

    @property
    def starts(self) -> Sequence[int]:
        """[n_sources]: the number of each source's first place."""

    def match(self, number: int) -> Match:
        """Return one of them."""

    def longest_with(self, next_id: int, start: int) -> int | None:
        """Return the number of the longest match from `start` on where a token stands, the first of
        several; None: it stands at none.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """`Places` as arrays."""

    lengths: IntArray
    next_ids: IntArray
    nearness: IntArray
    places: IntArray
    starts: Sequence[int]

    @property
    def n_matches(self) -> int:
        """M."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """The highest of `lengths`."""
        return int(self.lengths.max(initial=0))

    def match(self, number: int) -> Match:
        """Return one of them."""
        rows = (self.lengths, self.next_ids, self.nearness, self.places)
        return Match(*(int(row[number]) for row in rows))

    def longest_with(self, next_id: int, start: int) -> int | None:
        """See `Places.longest_with`."""
        lengths = np.where(self.next_ids == next_id, self.lengths, 0)
        lengths[:start] = 0
        return int(lengths.argmax()) if lengths.any() else None


class Search:
    """Sources in a row, and where in them a context stood. One thread uses it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Line up the texts of at least one source, all of one vocabulary."""
        self._sources = sources
        streams = [source.searched.stream for source in sources]
        self._width = streams[0].width
        firsts = list(accumulate((stream.n_tokens for stream in streams), initial=0))
        # Streams are stored backwards.
        self._ends = [first - 1 for first in firsts[1:]]
        starts = [s.starts + first for s, first in zip(streams, firsts[:-1], strict=True)]
        self._starts = np.concatenate(starts)
        # Of the text before each start: before the first one there is none.
        self._nearness = np.concatenate([np.array([-1]), *(s.nearness for s in sources)])

    def find(self, context: Sequence[int]) -> Found:
        """Return the places that agree best with the end of a context.

        Args:
            context: token ids; only the last ones matter.
        """
        key = Key.of(context, self._width)
        found = [_nearest(source.searched, key) for source in self._sources]
        places = np.concatenate(found)
        records = [
            source.searched.stream.around(at)
            for source, at in zip(self._sources, found, strict=True)
        ]
        around = Surroundings(records, self._width)
        lengths, next_ids = around.lengths(key), around.next_ids()
        nearness = self._nearness_at(found)
        is_match = lengths >= MIN_MATCH_TOKENS
        is_match &= next_ids != self._width.separator
        is_match &= nearness >= 0
        chosen = _longest(lengths, is_match, [len(at) for at in found])
        kept = np.concatenate(chosen)
        starts = list(accumulate((len(part) for part in chosen[:-1]), initial=0))
        return Found(lengths[kept], next_ids[kept], nearness[kept], places[kept], starts)

    def _nearness_at(self, found: Sequence[IntArray]) -> IntArray:
        """Return how near each place is: [M].

        Args:
            found: places of each source.
        """
        numbers = [end - places for end, places in zip(self._ends, found, strict=True)]
        return self._nearness[self._starts.searchsorted(np.concatenate(numbers), side="right")]


def _nearest(searched: Searched, key: Key) -> IntArray:
    return searched.nearest(key, MAX_SCANNED if searched.order is None else 2 * MAX_PLACES)


def _longest(
    lengths: IntArray, is_match: npt.NDArray[np.bool_], sizes: Sequence[int]
) -> list[IntArray]:
    """Return the indices of at most `MAX_PLACES` longest matches of each source.

    Args:
        lengths: [M].
        is_match: [M].
        sizes: how many places each source has, in order.
    """
    (matching,) = is_match.nonzero()
    bounds = matching.searchsorted(list(accumulate(sizes))).tolist()
    parts = [matching[start:end] for start, end in pairwise([0, *bounds])]
    return [
        part[(-lengths[part]).argsort(kind="stable")[:MAX_PLACES]]
        if len(part) > MAX_PLACES
        else part
        for part in parts
    ]
