"""Exact and near duplicates: SHA-256 for the one, MinHash with banded lookup for the other.

Knows texts and keys, not packages; which of two duplicates stays is decided by the order given.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np
from datasketch import MinHash, MinHashLSH

# 5-token shingles, 128 permutations, Jaccard 0.7: the setting of the BigCode pipelines.
SHINGLE_TOKENS = 5
N_PERMUTATIONS = 128
NEAR_JACCARD = 0.7
SEED = 1
# The permutations that datasketch 2 makes; its earlier ones are biased on large sets.
SCHEME = "affine32"
# One shingle in so many is kept, chosen by its hash: the estimate stays unbiased, at a quarter
# of the time.
KEEP_ONE_IN = 4

_TOKEN = re.compile(r"\w+|[^\w\s]")


def shingle_hashes(text: str) -> np.ndarray:
    """Return the sorted 32-bit hashes of the token shingles of `text`, thinned by `KEEP_ONE_IN`."""
    tokens = _TOKEN.findall(text)
    last = max(1, len(tokens) - SHINGLE_TOKENS + 1)
    hashes = {zlib.crc32(" ".join(tokens[i : i + SHINGLE_TOKENS]).encode()) for i in range(last)}
    kept = [h for h in hashes if h % KEEP_ONE_IN == 0] or [min(hashes)]
    return np.array(sorted(kept), dtype=np.uint64)


def signature(text: str) -> np.ndarray:
    """Return the MinHash signature of `text`: [N_PERMUTATIONS], uint64."""
    minhash = MinHash(num_perm=N_PERMUTATIONS, seed=SEED, hashfunc=int, scheme=SCHEME)
    minhash.update_batch(shingle_hashes(text).tolist())
    return minhash.digest()


class NearDuplicates:
    """The signatures seen so far; `match` tells whether a new one is close to one of them."""

    def __init__(self, threshold: float = NEAR_JACCARD) -> None:
        self._threshold = threshold
        self._index = MinHashLSH(threshold=threshold, num_perm=N_PERMUTATIONS)
        self._signatures: dict[str, MinHash] = {}

    def match(self, digest: np.ndarray) -> str | None:
        """Return the first key whose estimated Jaccard similarity reaches the threshold."""
        minhash = _as_minhash(digest)
        for key in sorted(self._index.query(minhash)):
            if self._signatures[key].jaccard(minhash) >= self._threshold:
                return key
        return None

    def add(self, key: str, digest: np.ndarray) -> None:
        """Remember a signature under a key that is new."""
        minhash = _as_minhash(digest)
        self._signatures[key] = minhash
        self._index.insert(key, minhash)

    def extend(self, items: Iterable[tuple[str, np.ndarray]]) -> None:
        """Remember many signatures."""
        for key, digest in items:
            self.add(key, digest)


def _as_minhash(digest: np.ndarray) -> MinHash:
    return MinHash(hashvalues=digest, seed=SEED, hashfunc=int, scheme=SCHEME)
