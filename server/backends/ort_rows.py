"""Memory that a graph writes its last rows into, so that no pass allocates or copies them.

Does not know what the rows mean, nor which layout writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from server.backends.contract import Logits
from server.backends.ort_session import OpenSession

KEPT_ROWS = 64  # rows whose memory is kept; more come only from a portable graph's prefill
Rows = npt.NDArray[Any]


class RowBuffer:
    """The values of one output for up to `KEPT_ROWS` rows, one after another in one memory."""

    def __init__(self, opened: OpenSession, name: str, width: int, device: str = "cpu") -> None:
        """Allocate one row.

        Args:
            opened: the session that writes.
            name: of the output, [1, n_rows, width].
            width: values of one row.
            device: `cpu`, or `cuda` for rows that stay there until they are asked for.
        """
        self.name = name
        self._ort = opened.ort
        self._width = width
        self._dtype = opened.dtype_of(name)
        self._device = device
        self._kept: dict[int, tuple[Any, Rows | None]] = {}
        self._memory = np.empty(width, self._dtype)
        self._bound: tuple[Any, Rows | None] = (None, None)

    def value(self, n_rows: int) -> Any:
        """Return an OrtValue [1, n_rows, width] for the graph to write into; rows may be 0."""
        if n_rows not in self._kept:
            made = self._made(n_rows)
            if n_rows > KEPT_ROWS:
                self._bound = made
                return made[0]
            self._kept[n_rows] = made
        self._bound = self._kept[n_rows]
        return self._bound[0]

    def last_rows(self, n_rows: int) -> Rows:
        """Return the last rows of what the last value holds: [n_rows, width].

        They are valid until the next pass; from a device they are fetched.
        """
        value, array = self._bound
        rows: Rows = (value.numpy() if array is None else array)[0]
        return rows[len(rows) - n_rows :]

    def fetchers(self, n_rows: int) -> Iterator[Callable[[], Rows]]:
        """Yield, for each of the last rows, what returns a copy of it."""
        for row in range(n_rows):
            yield partial(self._copy, n_rows, row)

    def _copy(self, n_rows: int, row: int) -> Rows:
        copied: Rows = self.last_rows(n_rows)[row].copy()
        return copied

    def _made(self, n_rows: int) -> tuple[Any, Rows | None]:
        shape = (1, n_rows, self._width)
        if self._device != "cpu":
            make = self._ort.OrtValue.ortvalue_from_shape_and_type
            return make(shape, self._dtype, self._device, 0), None
        n_values = n_rows * self._width
        if n_rows > KEPT_ROWS:
            array = np.empty(shape, self._dtype)
        else:
            if n_values > self._memory.size:
                self._memory = np.empty(n_values, self._dtype)
                self._kept.clear()
            array = self._memory[:n_values].reshape(shape)
        return self._ort.OrtValue.ortvalue_from_numpy(array), array


def as_logits(rows: Rows) -> Logits:
    """Return rows as float32; those that are need no copy."""
    logits: Logits = rows.astype(np.float32, copy=False)
    return logits
