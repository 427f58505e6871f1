"""Where the last tokens stood before, in the document itself and in the workspace.

Token ids only; pure but for the snapshot that is asked for at each look-up, so that a text that is
silenced says nothing from the next token on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from server.decoding.memory.index import Segment, Snapshot
from server.decoding.memory.names import folder_of
from server.decoding.memory.search import MIN_MATCH_TOKENS, Found, Nearness, Places, Source
from server.decoding.memory.speedups import Searches, make_search
from server.decoding.memory.stream import IntArray, Key, Stream, TokenArray, TokenWidth

# Of the document, so many tokens before and after the cursor are searched one by one. Guessed.
MAX_BEFORE_TOKENS = 24_576
MAX_AFTER_TOKENS = 8_192
# The next lines are seldom what is wanted: three lines are passed over. Measured on 117 lines of
# development packages: the lines that only repeat what stands just below fall from 10 to 3, those
# that are right stay 19.
PASSED_OVER_TOKENS = 36


class Matches(NamedTuple):
    """Places that agree with the end of a context, and the streams that they lie in."""

    found: Places
    origins: tuple[tuple[Stream, Segment | None], ...]
    """Of each source: its stream and its segment; None: the document itself."""

    def follow(self, number: int, n_tokens: int) -> list[int]:
        """Return at most so many tokens from a match's place on."""
        stream, _ = self.origin(number)
        return stream.follow(self.found.match(number).place, n_tokens)

    def origin(self, number: int) -> tuple[Stream, Segment | None]:
        """Return the stream that a match lies in, and its segment; None: the document itself."""
        return self.origins[bisect_right(self.found.starts, number) - 1]

    @property
    def n_in_document(self) -> int:
        """How many of them, the first ones, lie in the document itself."""
        for start, (_, segment) in zip(self.found.starts, self.origins, strict=True):
            if segment is not None:
                return start
        return self.found.n_matches


_NOTHING: IntArray = np.zeros(0, np.int64)
NO_MATCHES = Matches(Found(_NOTHING, _NOTHING, _NOTHING, _NOTHING, ()), ())


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

    @property
    def order(self) -> None:
        """None: sorting costs more than it spares."""
        return None

    def nearest(self, key: Key, n_most: int) -> IntArray:
        """Return places that agree in at least two tokens, those nearest above the cursor first."""
        tokens = self.stream.tokens[: self.stream.n_tokens + 1]
        agrees = tokens[:-1] == key.tokens[0]
        agrees &= tokens[1:] == key.tokens[1]
        places: IntArray = agrees.nonzero()[0]
        return places[:n_most]


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
        self._known: _Known | None = None

    def matches(self, context: Sequence[int]) -> Matches:
        """Return the places that agree best with the end of a context.

        Args:
            context: token ids; only the last ones matter.
        """
        if len(context) < MIN_MATCH_TOKENS:
            return NO_MATCHES
        known = self._known_now()
        if known.search is None:
            return NO_MATCHES
        return Matches(known.search.find(context), known.origins)

    def _known_now(self) -> _Known:
        """Return what can be asked now: as at the last look-up, unless the workspace changed."""
        snapshot = self._snapshot()
        if self._known is None or self._known.snapshot is not snapshot:
            self._known = self._line_up(snapshot)
        return self._known

    def _line_up(self, snapshot: Snapshot) -> _Known:
        """Return the texts of the document and of a snapshot, the document's first."""
        sources: list[Source] = []
        origins: list[tuple[Stream, Segment | None]] = []
        if (document := self._document) is not None:
            nearness = np.full(document.stream.n_texts, int(Nearness.DOCUMENT))
            sources.append(Source(document, nearness))
            origins.append((document.stream, None))
        for segment in snapshot.segments:
            sources.append(Source(segment.array, self._nearness(segment)))
            origins.append((segment.array.stream, segment))
        return _Known(snapshot, tuple(origins), make_search(sources) if sources else None)

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
class _Known:
    """All that can be asked at one moment."""

    snapshot: Snapshot
    origins: tuple[tuple[Stream, Segment | None], ...]
    search: Searches | None
    """None: there is nothing to ask."""
