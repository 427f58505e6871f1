"""Host memory that a graph writes its logits into, so that no pass allocates or copies them.

Does not know which layout writes there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from server.backends.contract import Logits
from server.backends.ort_session import OpenSession

KEPT_ROWS = 64  # rows whose memory is kept; more come only from a portable graph's prefill


class LogitsBuffer:
    """One array for up to `KEPT_ROWS` rows, and a bound value for each number of rows."""

    def __init__(self, opened: OpenSession) -> None:
        self._ort = opened.ort
        self._n_vocab = opened.manifest.spec.n_vocab
        self._dtype = opened.dtype_of(opened.manifest.tensors.logits)
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._array: Any = None
        self._memory = np.empty(self._n_vocab, self._dtype)

    def value(self, n_rows: int) -> Any:
        """Return an OrtValue [1, n_rows, V] for the graph to write into; rows may be 0."""
        if n_rows not in self._kept:
            if n_rows > KEPT_ROWS:
                array = np.empty((1, n_rows, self._n_vocab), self._dtype)
                self._array = array
                return self._ort.OrtValue.ortvalue_from_numpy(array)
            if n_rows * self._n_vocab > self._memory.size:
                self._memory = np.empty(n_rows * self._n_vocab, self._dtype)
                self._kept.clear()
            array = self._memory[: n_rows * self._n_vocab].reshape(1, n_rows, self._n_vocab)
            self._kept[n_rows] = (array, self._ort.OrtValue.ortvalue_from_numpy(array))
        self._array, value = self._kept[n_rows]
        return value

    def last_rows(self, n_rows: int) -> Logits:
        """Return the last rows of what the last bound value holds, [n_rows, V], as float32."""
        rows = self._array[0, self._array.shape[1] - n_rows :]
        logits: Logits = rows if rows.dtype == np.float32 else rows.astype(np.float32)
        return logits
