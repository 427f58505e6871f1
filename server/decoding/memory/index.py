"""What is known of the workspace's files: learned in the background, read by whoever decodes.

A few suffix arrays, from the large and old to the small and young, which is quick to build anew;
they are merged as they grow (O'Neil et al. 1996, "The log-structured merge-tree"). Readers take a
snapshot that never changes; writers put a new one in its place. Knows token ids and the names of
texts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from server.decoding.memory.names import Names
from server.decoding.memory.stream import FILLED_TOKENS, TokenArray, TokenWidth
from server.decoding.memory.suffix_array import ORDER_BYTES, SuffixArray

# An array of so many tokens is merged with whatever is learned: in 20 ms. Measured, 2 CPU cores.
LEAST_TOKENS = 200_000
MAX_SEGMENTS = 3  # Each is looked up by itself. Guessed.
# An array is merged once what is younger has a half of its size: so a text is sorted anew a few
# times while millions of tokens are learned.
MERGE_DIVISOR = 2
SILENT_DIVISOR = 8  # Or once an eighth of it is silent. Guessed.


@dataclass(frozen=True, slots=True)
class LearnedText:
    """A text of the workspace as token ids."""

    path: str
    tokens: TokenArray
    is_near: bool = False
    """It is open, or was changed since it was first learned."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A suffix array and which of its texts may still speak; each array is [n_texts]."""

    array: SuffixArray
    names: Names
    is_near: npt.NDArray[np.bool_]
    is_alive: npt.NDArray[np.bool_]

    @property
    def n_living_tokens(self) -> int:
        """Tokens of the texts that may speak, with separators."""
        return int(self.array.stream.sizes[self.is_alive].sum())

    def living(self) -> Iterator[LearnedText]:
        """Yield the texts that may speak."""
        for i in np.flatnonzero(self.is_alive):
            text = self.array.stream.text(int(i))
            yield LearnedText(self.names[int(i)], text, bool(self.is_near[i]))

    def without(self, paths: frozenset[str]) -> Segment:
        """Return the segment with some texts silenced."""
        dropped = self.names.numbers(paths)
        if not len(dropped):
            return self
        is_alive = self.is_alive.copy()
        is_alive[dropped] = False
        return replace(self, is_alive=is_alive)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at one moment."""

    segments: tuple[Segment, ...] = ()
    """From the oldest and largest to the youngest."""
    left_out: frozenset[str] = frozenset()
    """Paths of the texts that found no room."""

    @property
    def n_texts(self) -> int:
        """Texts that may speak."""
        return sum(int(segment.is_alive.sum()) for segment in self.segments)

    @property
    def n_tokens(self) -> int:
        """Tokens that are stored, separators and silenced texts included."""
        return sum(segment.array.stream.n_tokens for segment in self.segments)

    @property
    def n_bytes(self) -> int:
        """Memory that the arrays hold."""
        return sum(segment.array.n_bytes for segment in self.segments)

    def without(self, paths: frozenset[str]) -> Snapshot:
        """Return the snapshot with some texts silenced."""
        segments = tuple(segment.without(paths) for segment in self.segments)
        return Snapshot(segments, self.left_out - paths)


class WorkspaceIndex:
    """The snapshot that holds now. Any thread may call any method."""

    def __init__(self, width: TokenWidth, max_bytes: int) -> None:
        """Start empty.

        Args:
            width: of the vocabulary.
            max_bytes: that the arrays hold at the most; for a moment, while a new array is built
                beside the old one, it is up to four times as much.
        """
        self.width = width
        n_filled = MAX_SEGMENTS * FILLED_TOKENS * width.n_bytes
        self._max_tokens = max(0, max_bytes - n_filled) // (width.n_bytes + ORDER_BYTES)
        self._snapshot = Snapshot()
        self._building = threading.Lock()  # Held while arrays are built: one at a time.
        self._swapping = threading.Lock()  # Held for a moment.
        self._dropped: set[str] = set()  # Unlearned since the building began.

    @property
    def snapshot(self) -> Snapshot:
        """What is known now."""
        return self._snapshot

    def learn(self, read: Callable[[], Sequence[LearnedText]]) -> None:
        """Take texts in, in place of those with the same paths.

        Args:
            read: gives the texts. It is called once earlier learning has ended; what is unlearned
                from that moment on stays unlearned.
        """
        with self._building:
            with self._swapping:
                self._dropped.clear()
            texts = {text.path: text for text in read()}  # The last one of a path counts.
            known = self._snapshot
            new = [text for text in texts.values() if not _is_known(text, known)]
            if not new:
                return
            built = self._with_texts(known, new)
            with self._swapping:
                self._snapshot = built.without(frozenset(self._dropped))

    def unlearn(self, paths: Sequence[str]) -> None:
        """Silence texts at once; their memory is given back at the next merge."""
        with self._swapping:
            self._dropped.update(paths)
            self._snapshot = self._snapshot.without(frozenset(paths))

    def _with_texts(self, known: Snapshot, new: Sequence[LearnedText]) -> Snapshot:
        """Return a snapshot with texts taken in."""
        known = known.without(frozenset(text.path for text in new))
        new, refused = self._admitted(known, new)
        known = replace(known, left_out=known.left_out | refused)
        if not new:
            return known
        kept, changed = _parted(known.segments, new)
        left_out: frozenset[str] = frozenset()
        n_kept = sum(segment.array.stream.n_tokens for segment in kept)
        if n_kept + _count_tokens(changed) > self._max_tokens:
            living = [text for segment in kept for text in segment.living()]
            changed, left_out = self._fitting(changed, living)
            kept = []
        return Snapshot((*kept, *_segments(changed, self.width)), known.left_out | left_out)

    def _admitted(
        self, known: Snapshot, new: Sequence[LearnedText]
    ) -> tuple[list[LearnedText], frozenset[str]]:
        """Return the texts to take in and the paths of those that there is no room for.

        A full memory is not turned over by each file that is read; what is near always comes in.
        """
        n_room = self._max_tokens - sum(segment.n_living_tokens for segment in known.segments)
        admitted, refused = [], set()
        for text in sorted(new, key=lambda text: not text.is_near):
            n_tokens = len(text.tokens) + 1
            if not text.is_near and n_tokens > n_room:
                refused.add(text.path)
                continue
            admitted.append(text)
            n_room -= n_tokens
        return admitted, frozenset(refused)

    def _fitting(
        self, changed: Sequence[LearnedText], old: Sequence[LearnedText]
    ) -> tuple[list[LearnedText], frozenset[str]]:
        """Return the texts that there is room for and the paths of those there is none for.

        What is near stays, then what was known before.
        """
        near = [text for text in changed if text.is_near]
        others = [text for text in changed if not text.is_near]
        kept, left_out, n_tokens = [], set(), 0
        for text in [*near, *old, *others]:
            if n_tokens + len(text.tokens) + 1 > self._max_tokens:
                left_out.add(text.path)
                continue
            kept.append(text)
            n_tokens += len(text.tokens) + 1
        return kept, frozenset(left_out)


def _parted(
    segments: Sequence[Segment], new: Sequence[LearnedText]
) -> tuple[list[Segment], list[LearnedText]]:
    """Return the segments that stay as they are, and the new texts with those of the others."""
    kept: list[Segment] = []
    changed = list(new)
    for segment in segments:
        n_tokens = segment.array.stream.n_tokens
        # What is silent is found in the place of what speaks, before it is passed over.
        if n_tokens - segment.n_living_tokens > n_tokens // SILENT_DIVISOR:
            changed += segment.living()
        else:
            kept.append(segment)
    while kept:
        n_tokens = kept[-1].array.stream.n_tokens
        is_much = _count_tokens(changed) > n_tokens // MERGE_DIVISOR
        if not (is_much or n_tokens <= LEAST_TOKENS or len(kept) == MAX_SEGMENTS):
            break
        changed += kept.pop().living()
    return kept, changed


def _segments(texts: Sequence[LearnedText], width: TokenWidth) -> tuple[Segment, ...]:
    """Return one segment of all texts, or none if there are none."""
    if not texts:
        return ()
    return (
        Segment(
            array=SuffixArray([text.tokens for text in texts], width),
            names=Names([text.path for text in texts]),
            is_near=np.array([text.is_near for text in texts], bool),
            is_alive=np.ones(len(texts), bool),
        ),
    )


def _count_tokens(texts: Sequence[LearnedText]) -> int:
    return sum(len(text.tokens) + 1 for text in texts)


def _is_known(text: LearnedText, known: Snapshot) -> bool:
    """Return whether a text speaks already just as it is."""
    for segment in known.segments:
        for i in segment.names.numbers([text.path]).tolist():
            if segment.is_alive[i] and segment.is_near[i] == text.is_near:
                return np.array_equal(segment.array.stream.text(i), text.tokens)
    return False
