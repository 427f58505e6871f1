"""Which tokens a step sees: windows of the packed training tokens, half of them cut for filling in.

Everything follows from one number, the cursor (tokens consumed so far), and the seed: the order of
the blocks is a permutation per epoch, and each window has its own random generator. So a resumed
run sees exactly what it would have seen. Knows nothing of the network.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from tokenizers import Tokenizer

from training.config import FimConfig
from training.errors import CorpusError
from training.fim import Order, assemble, cut_for_fill
from training.tokenizer import encode, special_ids, token_bytes

# Labels that the loss leaves out, as torch's cross entropy does by default.
IGNORED = -100
# A piece of a document shorter than this, in characters, is left as it is.
SHORTEST_PIECE_CHARS = 40
# Tokens are about this long in Python text with 8k tokens (measured 3.3); sizes suffixes only.
CHARS_PER_TOKEN = 3.3


class Batches:
    """Windows of packed tokens, in an order that depends on seed and cursor alone."""

    def __init__(
        self, ids: np.ndarray, tokenizer: Tokenizer, fim: FimConfig, *, n_ctx: int, seed: int
    ) -> None:
        """Cut `ids` into blocks of `n_ctx` tokens, the longest window there will be.

        Raises:
            CorpusError: there is not one block.
        """
        self._ids = ids
        self._n_ctx = n_ctx
        self._n_blocks = (len(ids) - 1) // n_ctx
        self._seed = seed
        self._fim = fim
        self._encode = functools.partial(encode, tokenizer)
        # Without cuts, the end token is all that a vocabulary must have.
        self._special = special_ids(tokenizer) if fim.rate > 0 else None
        self._token_bytes = token_bytes(tokenizer)
        if self._n_blocks < 1:
            raise CorpusError(
                f"{len(ids)} tokens are too few for one window of {n_ctx}; add text to the corpus"
            )

    @property
    def epoch_tokens(self) -> int:
        """Return how many tokens one pass over the data has."""
        return self._n_blocks * self._n_ctx

    def batch(self, cursor: int, n_rows: int, n_ctx: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and labels, [n_rows, n_ctx] int64 each, for the tokens from `cursor` on.

        The next batch begins at `cursor + n_rows * n_ctx`.
        """
        starts = range(cursor, cursor + n_rows * n_ctx, n_ctx)
        rows = np.stack([self._row(start, n_ctx) for start in starts])
        labels = rows[:, 1:].copy()
        labels[rows[:, 1:] < 0] = IGNORED
        return np.maximum(rows[:, :-1], 0), labels

    def _row(self, start: int, n_ctx: int) -> np.ndarray:
        block, offset = divmod(start, self._n_ctx)
        epoch, index = divmod(block, self._n_blocks)
        first = int(self._order(epoch)[index]) * self._n_ctx + offset
        window = np.asarray(self._ids[first : first + n_ctx + 1], dtype=np.int64)
        rng = np.random.default_rng((self._seed, 1, start))
        return self._transform(window, rng)

    def _order(self, epoch: int) -> np.ndarray:
        return _permutation(self._seed, epoch, self._n_blocks)

    def _transform(self, window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cut the documents of a window for filling in; the length stays, the front gives way.

        Tokens are added by a cut. They push out the beginning of the window, never its end, where
        the model learns to stop. A window that came out short is padded with -1.
        """
        if self._special is None or rng.random() >= self._fim.rate:
            return window
        n_total = len(window)
        pieces = np.split(window, np.flatnonzero(window == self._special.end) + 1)
        out: list[int] = []
        for piece in pieces:
            out.extend(self._fill(piece, rng, n_total))
        surplus = len(out) - n_total
        if surplus <= 0:
            return np.array(out + [-1] * -surplus, dtype=np.int64)
        start = self._start_of_text(out)
        special = dataclasses.astuple(self._special)
        n_droppable = next((i for i, t in enumerate(out[start:]) if t in special), n_total)
        if n_droppable <= surplus:
            return window
        return np.array(out[:start] + out[start + surplus :], dtype=np.int64)

    def _start_of_text(self, out: list[int]) -> int:
        """Return where the earliest text of a window stands: the front of the first prefix."""
        if out[0] != self._special.prefix:
            return 0
        return out.index(self._special.middle) + 1 if out[1] == self._special.suffix else 1

    def _fill(self, piece: np.ndarray, rng: np.random.Generator, n_total: int) -> list[int]:
        is_whole = len(piece) > 0 and piece[-1] == self._special.end
        data = b"".join(self._token_bytes[i] for i in piece)
        # A window may begin or end inside a character.
        text = data.decode("utf-8", errors="ignore")
        if len(text) < SHORTEST_PIECE_CHARS:
            return [int(i) for i in piece]
        suffix_chars = int(self._fim.suffix_share * n_total * CHARS_PER_TOKEN)
        cut = cut_for_fill(text, rng, self._fim, suffix_chars)
        order: Order = "spm" if rng.random() < self._fim.spm_share else "psm"
        joins_tokens = bool(rng.random() < 0.5)
        out = assemble(cut, order, self._encode, self._special, joins_tokens=joins_tokens)
        if cut.rest:
            out += self._encode(cut.rest) + ([self._special.end] if is_whole else [])
        return out


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(n)
