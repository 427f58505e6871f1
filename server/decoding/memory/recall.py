"""Where the last tokens stood before, in the document itself and in the workspace.

Token ids only; pure but for the snapshot that is asked for at each look-up, so that a text that is
silenced says nothing from the next token on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from server.decoding.memory.index import Segment, Snapshot
from server.decoding.memory.stream import IntArray, Key, Places, Stream, TokenArray, TokenWidth

MIN_MATCH_TOKENS = 2  # A single token may be followed by almost anything. Guessed.
# Places that are looked at, the longest matches of each source: more cost time and say little.
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
    REST = 3


@dataclass(frozen=True, slots=True)
class Matches:
    """Places that agree with the end of a context; each array is [M]."""

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

    def __init__(self, before: Sequence[int], after: Sequence[int], width: TokenWidth) -> None:
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

    def nearest(self, key: Key) -> Places:
        """Return places that agree in at least two tokens, those nearest above the cursor first."""
        tokens = self.stream.tokens[: self.stream.n_tokens + 1]
        agrees = (tokens[:-1] == key.tokens[0]) & (tokens[1:] == key.tokens[1])
        return np.flatnonzero(agrees)[:MAX_SCANNED]


class Recall:
    """Looks contexts of one document up. One thread uses it."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        document: DocumentText | None,
        path: str,
        width: TokenWidth,
        is_silent: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Prepare for one answer.

        Args:
            snapshot: gives what is known of the workspace now.
            document: the text around the cursor; None: it says nothing.
            path: of the document: what was learned under it says nothing, for it holds the very
                text that is being written.
            width: of the vocabulary.
            is_silent: whether the text of a path must say nothing.
        """
        self._snapshot = snapshot
        self._document = document
        self._path = path
        self._folder = path.rpartition("/")[0]
        self._width = width
        self._is_silent = is_silent
        self._nearness_of: dict[int, tuple[Segment, IntArray]] = {}

    def matches(self, context: Sequence[int]) -> Matches:
        """Return the places that agree best with the end of a context.

        Args:
            context: token ids; only the last ones matter.
        """
        if len(context) < MIN_MATCH_TOKENS:
            return NO_MATCHES
        key = Key.of(context, self._width)
        found: list[tuple[Stream, Segment | None, Places]] = []
        if self._document is not None:
            found.append((self._document.stream, None, self._document.nearest(key)))
        for known in self._snapshot().segments:
            places = known.array.nearest(key, 2 * MAX_PLACES)
            found.append((known.array.stream, known, places))
        parts = [self._rated(stream, segment, places, key) for stream, segment, places in found]
        origins, start = [], 0
        for (stream, segment, _), part in zip(found, parts, strict=True):
            origins.append((start, stream, segment))
            start += part.shape[1]
        if start == 0:
            return NO_MATCHES
        lengths, next_ids, nearness, places = np.concatenate(parts, axis=1)
        return Matches(lengths, next_ids, nearness, places, tuple(origins))

    def _rated(self, stream: Stream, segment: Segment | None, places: Places, key: Key) -> IntArray:
        """Return lengths, next tokens, nearness and places of the longest matches: [4, M]."""
        if not len(places):
            return np.zeros((4, 0), np.int64)
        lengths = stream.lengths_at(places, key)
        next_ids = stream.next_ids(places)
        is_match = (lengths >= MIN_MATCH_TOKENS) & (next_ids != self._width.separator)
        nearness: IntArray | int = Nearness.DOCUMENT
        if segment is not None:
            nearness = self._nearness(segment)[stream.text_indices(places)]
            is_match &= nearness >= 0
        rated = np.empty((4, len(places)), np.int64)
        rated[0], rated[1], rated[2], rated[3] = lengths, next_ids, nearness, places
        rated = rated[:, is_match]
        if rated.shape[1] > MAX_PLACES:
            rated = rated[:, np.argsort(-rated[0], kind="stable")[:MAX_PLACES]]
        return rated

    def _nearness(self, segment: Segment) -> IntArray:
        """Return how near each text of a segment is, -1 for those that must say nothing."""
        known = self._nearness_of.get(id(segment))
        if known is not None and known[0] is segment:
            return known[1]
        nearness = np.full(len(segment.paths), int(Nearness.REST))
        for i, path in enumerate(segment.paths):
            if path == self._path or self._is_silent(path):
                nearness[i] = -1
            elif path.rpartition("/")[0] == self._folder:
                nearness[i] = Nearness.FOLDER
        nearness[segment.is_near & (nearness >= 0)] = Nearness.OPEN
        nearness[~segment.is_alive] = -1
        self._nearness_of[id(segment)] = (segment, nearness)
        return nearness
