"""Texts as one stream of token ids, backwards, so that a context is looked up from its end.

A place in the stream is the index of the token *before* it, counted from the stream's end: the
context that leads to the place then reads forwards from there, and what follows lies just below.
Pure; does not know how places are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
TokenArray = npt.NDArray[np.unsignedinteger[Any]]
Records = npt.NDArray[np.void]

MAX_MATCH_TOKENS = 32  # Longer agreement says little more. Guessed.
FILLED_TOKENS = MAX_MATCH_TOKENS + 1  # At the end of each stream.


@dataclass(frozen=True, slots=True)
class TokenWidth:
    """How the tokens of one vocabulary are stored: in as few bytes as hold them and two marks."""

    n_vocab: int

    @property
    def n_bytes(self) -> int:
        """Bytes of one token."""
        return 2 if self.n_vocab + 1 < 2**16 else 4

    @property
    def native(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The type in this machine's byte order."""
        return np.dtype(np.uint16) if self.n_bytes == 2 else np.dtype(np.uint32)

    @property
    def ordered(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The type whose bytes sort as the tokens do: the highest byte first."""
        return self.native.newbyteorder(">")

    @property
    def separator(self) -> int:
        """Stands after every text; no context contains it."""
        return self.n_vocab

    @property
    def nothing(self) -> int:
        """Equals no token and no separator."""
        return self.n_vocab + 1

    def pack(self, token_ids: Sequence[int] | IntArray | TokenArray) -> TokenArray:
        """Return tokens in the type that they are stored in."""
        return np.asarray(token_ids, self.native)


@dataclass(frozen=True, slots=True)
class Key:
    """The end of a context, backwards, as streams store it."""

    data: bytes
    """At most `MAX_MATCH_TOKENS` tokens, the last one first."""
    tokens: TokenArray
    """[MAX_MATCH_TOKENS + 1], filled up with what equals nothing."""

    @classmethod
    def of(cls, context: Sequence[int], width: TokenWidth) -> Key:
        """Return the key of a context; of a long one only the end is used."""
        ids = list(context[-MAX_MATCH_TOKENS:])
        ids.reverse()
        filled = np.array(ids + [width.nothing] * (FILLED_TOKENS - len(ids)), width.ordered)
        return cls(filled.tobytes()[: len(ids) * width.n_bytes], filled.view(width.native))


class Surroundings:
    """What stands at some places and what leads there; many at once, for that costs no more."""

    def __init__(self, records: Sequence[Records], width: TokenWidth) -> None:
        """Put together what streams have `around` places."""
        self._width = width
        joined = np.concatenate(records).view(width.native)
        self._tokens: TokenArray = joined.reshape(-1, 1 + FILLED_TOKENS)

    def lengths(self, key: Key) -> IntArray:
        """Return how many tokens before each place agree with the end of a context: [M]."""
        is_other = self._tokens[:, 1:] != key.tokens  # [M, MAX_MATCH_TOKENS + 1]
        lengths: IntArray = is_other.argmax(axis=1)  # The last column differs always.
        return lengths

    def next_ids(self) -> IntArray:
        """Return the token that stands at each place, or the separator: [M]."""
        ids: IntArray = self._tokens[:, 0].view(self._width.ordered).astype(np.int64)
        return ids


class Stream:
    """Several texts, each with a separator after it."""

    def __init__(self, texts: Sequence[TokenArray], width: TokenWidth) -> None:
        """Join texts.

        Args:
            texts: [T] each, without separators.
            width: of the vocabulary.
        """
        sizes = np.array([len(text) + 1 for text in texts], np.int64)
        joined = np.full(int(sizes.sum()), width.separator, width.native)
        ends = sizes.cumsum()
        for text, end in zip(texts, ends, strict=True):
            joined[end - len(text) - 1 : end - 1] = text
        filler = np.full(FILLED_TOKENS, width.separator, width.native)
        backwards = np.concatenate([joined[::-1], filler]).astype(width.ordered)
        self.width = width
        self.n_tokens = len(joined)
        """With the separators."""
        backwards.flags.writeable = False
        self.tokens: TokenArray = backwards.view(width.native)
        """Backwards, and so many separators that every place has a whole context; to be compared
        for equality only: the byte order is not this machine's."""
        self.sizes: IntArray = sizes
        """[n_texts]: tokens of each text and its separator."""
        self.starts: IntArray = ends - sizes
        """[n_texts]: how many tokens stand before each text."""
        self.data = memoryview(self.tokens.data).cast("B")
        """The same as bytes, of which a few are quicker to come by than from an array."""
        record = np.dtype((np.void, (1 + FILLED_TOKENS) * width.n_bytes))
        self._records: Records = np.ndarray(
            (self.n_tokens,), record, self.tokens, strides=(width.n_bytes,)
        )

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return len(self.starts)

    def text(self, index: int) -> TokenArray:
        """Return one text."""
        start = int(self.starts[index])
        end = int(self.starts[index + 1]) if index + 1 < self.n_texts else self.n_tokens
        raw = self.tokens[self.n_tokens - end + 1 : self.n_tokens - start]
        return self.width.pack(raw.view(self.width.ordered)[::-1])

    def around(self, places: IntArray) -> Records:
        """Return the token at each place with the context before it, for `Surroundings`: [M].

        At place 0, where nothing ever agrees, another token stands for the one that is missing.
        """
        return self._records[places - 1]

    def next_id(self, place: int) -> int:
        """Return the token that stands at a place above 0, or the separator."""
        n_bytes = self.width.n_bytes
        return int.from_bytes(self.data[n_bytes * (place - 1) : n_bytes * place], "big")

    def follow(self, place: int, n_tokens: int) -> list[int]:
        """Return the tokens from a place on, as many as there are up to the end of its text."""
        raw = self.tokens[max(0, place - n_tokens) : place]
        ids: list[int] = raw.view(self.width.ordered)[::-1].tolist()
        if self.width.separator in ids:
            del ids[ids.index(self.width.separator) :]
        return ids

    def text_indices(self, places: IntArray) -> IntArray:
        """Return which text each place lies in: [M]."""
        return np.searchsorted(self.starts, self.n_tokens - 1 - places, side="right") - 1

    def offset(self, place: int, text: int) -> int:
        """Return how many tokens of a text stand before a place in it."""
        return self.n_tokens - place - int(self.starts[text])
