"""All places of a stream in the order of what leads to them: the longest match is one search away.

Pure; takes no lock and keeps no state. Source: Liu et al. 2024, "Infini-gram: Scaling Unbounded
n-gram Language Models to a Trillion Tokens", arXiv:2401.17377; here the stream is stored backwards,
so that one search finds the longest match and all shorter ones stand around it.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.decoding.memory.stream import IntArray, Key, Stream, TokenArray, TokenWidth

ORDER_BYTES = 4  # Of one place in the order.


class SuffixArray:
    """A stream and its places, sorted by their contexts."""

    def __init__(self, texts: Sequence[TokenArray], width: TokenWidth) -> None:
        """Sort the places; takes about a second for five million tokens and lets others run.

        Args:
            texts: [T] each.
            width: of the vocabulary.
        """
        self.stream = Stream(texts, width)
        self.order = _sorted_places(self.stream)
        """[n_tokens]: the places, sorted by what leads to them."""
        # It gives plain numbers, quicker than the array does.
        self._places = memoryview(self.order.data).cast("B").cast("i")

    @property
    def n_bytes(self) -> int:
        """Memory that stream and order hold."""
        return self.stream.tokens.nbytes + self.order.nbytes

    def nearest(self, key: Key, n_most: int) -> IntArray:
        """Return the places with the longest matches: half of `n_most` on each side of the key.

        Places whose contexts agree with the key's in any number of tokens stand together in the
        order, the more they agree the nearer. Those found may still agree in none.
        """
        data, n_bytes, key_bytes = self.stream.data, self.stream.width.n_bytes, len(key.data)

        def context_at(place: int) -> bytes:
            return data[n_bytes * place : n_bytes * place + key_bytes].tobytes()

        middle = bisect_left(self._places, key.data, key=context_at)
        near = self.order[max(0, middle - n_most // 2) : middle + n_most // 2]
        return near.astype(np.int64)


def _sorted_places(stream: Stream) -> npt.NDArray[np.int32]:
    """Return the places of a stream in the order of their contexts: [n_tokens]."""
    if stream.n_tokens == 0:
        return np.zeros(0, np.int32)
    # Loaded late: whoever learns nothing needs no sorter. Called past the function around it, which
    # fills its result with zeros while no other thread can run: 33 ms for five million tokens.
    # Measured.
    from pydivsufsort.dll import libdivsufsort

    # Of all bytes; those where a token starts are in the order of the tokens.
    order = np.empty(stream.tokens.nbytes, np.int32)
    failed = libdivsufsort.divsufsort(
        ctypes.c_void_p(stream.tokens.ctypes.data),
        ctypes.c_void_p(order.ctypes.data),
        ctypes.c_int32(len(order)),
    )
    if failed:  # Of arguments that are right it refuses none: there was no room to work in.
        raise MemoryError(f"no room to sort {stream.n_tokens} tokens")
    order = order[order % stream.width.n_bytes == 0] // stream.width.n_bytes
    # What fills the stream up at its end must be sorted with it but is no place.
    places: npt.NDArray[np.int32] = order[order < stream.n_tokens]
    return places
