"""Texts of a split as one array of token ids on disk, documents set apart by the end token.

    tokens/tokenizer.json  train.npy dev.npy test.npy (uint16)  tokens.json (hashes, counts)

Knows nothing of batches; the array is memory-mapped when it is read.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track
from tokenizers import Tokenizer

from training.corpus import read_split, sha256_of
from training.errors import CorpusError
from training.manifest import SPLITS
from training.tokenizer import (
    compression,
    encode,
    end_id,
    learn_tokenizer,
    load_tokenizer,
)

# Texts of which bytes per token are told, per split.
N_COMPRESSION_TEXTS = 200


def sample_texts(corpus: Path, n_bytes: int, seed: int) -> Iterator[str]:
    """Yield training texts in a random order until `n_bytes` are reached."""
    texts = [row["text"] for row in read_split(corpus, "train")]
    random.Random(seed).shuffle(texts)
    for text in texts:
        yield text
        n_bytes -= len(text.encode())
        if n_bytes <= 0:
            return


def learn_and_pack(
    corpus: Path,
    folder: Path,
    *,
    n_vocab: int,
    sample_bytes: int,
    min_frequency: int,
    seed: int,
    given: Path | None = None,
) -> dict[str, object]:
    """Learn the tokenizer from the training split, pack all splits, return the record.

    A tokenizer that is `given` is used as it is: a model goes on only with its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if given is None:
        texts = sample_texts(corpus, sample_bytes, seed)
        tokenizer = learn_tokenizer(texts, n_vocab, min_frequency)
    else:
        tokenizer = load_tokenizer(given)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    record: dict[str, object] = {
        "n_vocab": tokenizer.get_vocab_size(),
        "tokenizer_sha256": sha256_of(path),
    }
    for split in SPLITS:
        texts_of_split = [row["text"] for row in read_split(corpus, split)]
        ids = pack(tokenizer, texts_of_split, split)
        np.save(folder / f"{split}.npy", ids)
        record[split] = {
            "n_tokens": len(ids),
            "n_documents": len(texts_of_split),
            "sha256": sha256_of(folder / f"{split}.npy"),
            **compression(tokenizer, texts_of_split[:N_COMPRESSION_TEXTS]),
        }
    (folder / "tokens.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def pack(tokenizer: Tokenizer, texts: list[str], label: str) -> np.ndarray:
    """Return the ids of all texts, each followed by the end token: uint16.

    Raises:
        CorpusError: the vocabulary does not fit 16 bits.
    """
    if tokenizer.get_vocab_size() > 2**16:
        raise CorpusError(f"{tokenizer.get_vocab_size()} tokens do not fit 16 bits")
    end = end_id(tokenizer)
    parts = [
        np.array([*encode(tokenizer, text), end], dtype=np.uint16)
        for text in track(texts, f"packing {label}")
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)


def open_tokens(folder: Path, split: str) -> np.ndarray:
    """Memory-map the packed tokens of a split.

    Raises:
        CorpusError: they are not there.
    """
    path = folder / f"{split}.npy"
    if not path.is_file():
        raise CorpusError(f"{path} is not there; run the tokenizer command first")
    return np.load(path, mmap_mode="r")
