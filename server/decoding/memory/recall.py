"""Where the last tokens stood before, in the document itself and in the workspace.

Token ids only; pure but for the snapshot that is asked for at each look-up, so that a text that is
silenced says nothing from the next token on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from server.decoding.memory.index import Segment, Snapshot
from server.decoding.memory.names import folder_of
from server.decoding.memory.stream import (
    IntArray,
    Key,
    Stream,
    Surroundings,
    TokenArray,
    TokenWidth,
)

MIN_MATCH_TOKENS = 2  # A single token may be followed by almost anything. Guessed.
# IntArray that are looked at, the longest matches of each source: more cost time and say little.
# Guessed.
MAX_PLACES = 32
MAX_SCANNED = 128
# Of the document, so many tokens before and after the cursor are searched one by one. Guessed.
MAX_BEFORE_TOKENS = 24_576
MAX_AFTER_TOKENS = 8_192
# The next lines are seldom what is wanted: three lines are passed over. Measured on 117 lines of
# development packages: the lines that only repeat what stands just below fall from 10 to 3, those
# that are right stay 19.
PASSED_OVER_TOKENS = 36


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


@dataclass(frozen=True, slots=True)
class Matches:
    """IntArray that agree with the end of a context; each array is [M]."""

    lengths: IntArray
    """How many tokens agree; at least `MIN_MATCH_TOKENS`."""
    next_ids: IntArray
    """The token that stands there."""
    nearness: IntArray
    places: IntArray
    origins: tuple[tuple[int, Stream, Segment | None], ...]
    """For the matches from an index on: the stream that they lie in, and its segment."""

    @property
    def n_matches(self) -> int:
        """M."""
        return len(self.lengths)

    @property
    def n_in_document(self) -> int:
        """How many of them, the first ones, lie in the document itself."""
        starts = (start for start, _, segment in self.origins if segment is not None)
        return next(starts, self.n_matches)

    def follow(self, match: int, n_tokens: int) -> list[int]:
        """Return at most so many tokens from a match's place on."""
        stream, _ = self.origin(match)
        return stream.follow(int(self.places[match]), n_tokens)

    def origin(self, match: int) -> tuple[Stream, Segment | None]:
        """Return the stream that a match lies in, and its segment; None: the document itself."""
        for start, stream, segment in reversed(self.origins):
            if match >= start:
                return stream, segment
        raise IndexError(match)


_NOTHING: IntArray = np.zeros(0, np.int64)
NO_MATCHES = Matches(_NOTHING, _NOTHING, _NOTHING, _NOTHING, ())


class DocumentText:
    """The document itself, which changes with each keystroke: searched as it is, without an index.

    What was generated is not a part of it, so the memory never feeds on its own words.
    """

    def __init__(
        self,
        before: Sequence[int] | IntArray,
        after: Sequence[int] | IntArray,
        width: TokenWidth,
    ) -> None:
        """Join what stands on both sides of the cursor; no match crosses the cursor.

        Args:
            before: tokens before the cursor; only the last ones are used.
            after: tokens after the cursor; the first few are passed over, and of the rest the first
                ones are used.
            width: of the vocabulary.
        """
        texts: list[TokenArray] = [
            width.pack(after[PASSED_OVER_TOKENS:][:MAX_AFTER_TOKENS]),
            width.pack(before[-MAX_BEFORE_TOKENS:]),
        ]
        # The stream is stored backwards: what stands just before the cursor comes first.
        self.stream = Stream(texts, width)

    def nearest(self, key: Key) -> IntArray:
        """Return places that agree in at least two tokens, those nearest above the cursor first."""
        tokens = self.stream.tokens[: self.stream.n_tokens + 1]
        agrees = tokens[:-1] == key.tokens[0]
        agrees &= tokens[1:] == key.tokens[1]
        places: IntArray = agrees.nonzero()[0]
        return places[:MAX_SCANNED]


class Recall:
    """Looks contexts of one document up. One thread uses it."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        document: DocumentText | None,
        path: str,
        width: TokenWidth,
        is_silent: Callable[[str], bool] | None = None,
        imported: Sequence[str] = (),
    ) -> None:
        """Prepare for one answer.

        Args:
            snapshot: gives what is known of the workspace now.
            document: the text around the cursor; None: it says nothing.
            path: of the document: what was learned under it says nothing, for it holds the very
                text that is being written.
            width: of the vocabulary.
            is_silent: whether the text of a path must say nothing; None: none must.
            imported: modules that the document imports: paths without suffix, or ends of such.
        """
        self._snapshot = snapshot
        self._document = document
        self._path = path
        self._width = width
        self._is_silent = is_silent
        self._imported = imported
        self._sources: _Sources | None = None

    def matches(self, context: Sequence[int]) -> Matches:
        """Return the places that agree best with the end of a context.

        Args:
            context: token ids; only the last ones matter.
        """
        if len(context) < MIN_MATCH_TOKENS:
            return NO_MATCHES
        key = Key.of(context, self._width)
        sources = self._known_now()
        found: list[IntArray] = [] if self._document is None else [self._document.nearest(key)]
        found += [known.array.nearest(key, 2 * MAX_PLACES) for known in sources.snapshot.segments]
        if not found:
            return NO_MATCHES
        # From here on all sources together: it is the number of steps that costs.
        streams = [stream for stream, _ in sources.origins]
        records = [stream.around(at) for stream, at in zip(streams, found, strict=True)]
        around = Surroundings(records, self._width)
        lengths, next_ids = around.lengths(key), around.next_ids()
        nearness = sources.nearness_at(found)
        is_match = lengths >= MIN_MATCH_TOKENS
        is_match &= next_ids != self._width.separator
        is_match &= nearness >= 0
        chosen = _longest(lengths, is_match, [len(places) for places in found])
        kept = np.concatenate(chosen)
        if not len(kept):
            return NO_MATCHES
        starts = accumulate((len(part) for part in chosen[:-1]), initial=0)
        return Matches(
            lengths=lengths[kept],
            next_ids=next_ids[kept],
            nearness=nearness[kept],
            places=np.concatenate(found)[kept],
            origins=tuple(
                (start, stream, segment)
                for start, (stream, segment) in zip(starts, sources.origins, strict=True)
            ),
        )

    def _known_now(self) -> _Sources:
        """Return what can be asked now: as at the last look-up, unless the workspace changed."""
        snapshot = self._snapshot()
        if self._sources is None or self._sources.snapshot is not snapshot:
            document = self._document.stream if self._document is not None else None
            self._sources = _Sources.of(document, snapshot, self._nearness)
        return self._sources

    def _nearness(self, segment: Segment) -> IntArray:
        """Return how near each text of a segment is, -1 for those that must say nothing."""
        names = segment.names
        nearness = np.full(len(names), int(Nearness.REST))
        nearness[names.of_modules(self._imported)] = Nearness.IMPORTED
        nearness[names.inside(folder_of(self._path))] = Nearness.FOLDER
        nearness[segment.is_near] = Nearness.OPEN
        nearness[~segment.is_alive] = -1
        nearness[names.numbers([self._path])] = -1
        if self._is_silent is not None:
            nearness[[self._is_silent(path) for path in names]] = -1
        return nearness


@dataclass(frozen=True, slots=True)
class _Sources:
    """All that can be asked at one moment, the document first: its texts in one row."""

    snapshot: Snapshot
    origins: tuple[tuple[Stream, Segment | None], ...]
    ends: tuple[int, ...]
    """Of each stream: the number of its last token in the row."""
    starts: IntArray
    """[n_texts]: the number of each text's first token in the row."""
    nearness: IntArray
    """[1 + n_texts]: of the text before each; -1: it says nothing."""

    @classmethod
    def of(
        cls, document: Stream | None, snapshot: Snapshot, nearness: Callable[[Segment], IntArray]
    ) -> _Sources:
        """Line up the texts of a document and of a snapshot, as near as they are."""
        origins: list[tuple[Stream, Segment | None]] = []
        near = [np.array([-1])]
        if document is not None:
            origins.append((document, None))
            near.append(np.full(document.n_texts, int(Nearness.DOCUMENT)))
        for segment in snapshot.segments:
            origins.append((segment.array.stream, segment))
            near.append(nearness(segment))
        sizes = [stream.n_tokens for stream, _ in origins]
        firsts = list(accumulate(sizes, initial=0))
        starts = [
            stream.starts + first for (stream, _), first in zip(origins, firsts[:-1], strict=True)
        ]
        return cls(
            snapshot=snapshot,
            origins=tuple(origins),
            ends=tuple(first - 1 for first in firsts[1:]),
            starts=np.concatenate([np.zeros(0, np.int64), *starts]),
            nearness=np.concatenate(near),
        )

    def nearness_at(self, found: Sequence[IntArray]) -> IntArray:
        """Return how near each place is: [M].

        Args:
            found: places of each stream.
        """
        # Streams are stored backwards.
        numbers = [end - places for end, places in zip(self.ends, found, strict=True)]
        return self.nearness[self.starts.searchsorted(np.concatenate(numbers), side="right")]


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
