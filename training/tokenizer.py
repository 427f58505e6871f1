"""A byte-level BPE tokenizer: learned from texts, saved as `tokenizer.json`, and its tokens' bytes.

Text is cut by GPT-2's own pattern, which keeps runs of whitespace together, so that an indentation
is one token; any bytes that are UTF-8 survive the round trip. Knows nothing of models.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.errors import CheckpointError, CorpusError

END = "<|endoftext|>"
FIM_PREFIX = "<|fim_prefix|>"
FIM_SUFFIX = "<|fim_suffix|>"
FIM_MIDDLE = "<|fim_middle|>"
SPECIAL_TOKENS = (END, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialIds:
    """The ids of the four special tokens."""

    end: int
    prefix: int
    suffix: int
    middle: int


def learn_tokenizer(texts: Iterable[str], n_vocab: int, min_frequency: int = 2) -> Tokenizer:
    """Learn a vocabulary of `n_vocab` tokens, the special ones first.

    Raises:
        CorpusError: the vocabulary has no room for the 256 bytes and the special tokens.
    """
    least = 256 + len(SPECIAL_TOKENS)
    if n_vocab < least:
        raise CorpusError(f"a vocabulary of {n_vocab} cannot hold all bytes; the least is {least}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read `tokenizer.json`; text that spells a special token is encoded as plain text.

    Raises:
        CheckpointError: the file is missing or is no tokenizer with GPT-2's end token.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises bare Exception, for a missing file too
        raise CheckpointError(f"{path}: no tokenizer can be read from it ({exc})") from exc
    tokenizer.encode_special_tokens = True
    end_id(tokenizer)
    return tokenizer


def end_id(tokenizer: Tokenizer) -> int:
    """Return the id of the token that ends a text; every GPT-2 has it.

    Raises:
        CheckpointError: it is not in the vocabulary.
    """
    end: int | None = tokenizer.token_to_id(END)
    if end is None:
        raise CheckpointError(f"the tokenizer has no {END}")
    return end


def fills_in(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has the tokens for filling in the middle; GPT-2's own has none."""
    return all(tokenizer.token_to_id(token) is not None for token in SPECIAL_TOKENS)


def special_ids(tokenizer: Tokenizer) -> SpecialIds:
    """Return the ids of the special tokens.

    Raises:
        CheckpointError: one of them is not in the vocabulary.
    """
    ids = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    if None in ids:
        missing = [t for t, i in zip(SPECIAL_TOKENS, ids, strict=True) if i is None]
        raise CheckpointError(f"the tokenizer has no {', '.join(missing)}")
    return SpecialIds(end=ids[0], prefix=ids[1], suffix=ids[2], middle=ids[3])


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of `text`, without special tokens."""
    return tokenizer.encode(text, add_special_tokens=False).ids


@functools.cache
def _byte_of_symbol() -> dict[str, int]:
    # GPT-2's table: printable bytes stand for themselves, the others are moved up from 256.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    moved = [b for b in range(256) if b not in printable]
    return table | {chr(256 + i): b for i, b in enumerate(moved)}


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of every token, by id; a special token has none."""
    symbols = _byte_of_symbol()
    table = []
    for i in range(tokenizer.get_vocab_size()):
        token = tokenizer.id_to_token(i)
        plain = token in SPECIAL_TOKENS or any(c not in symbols for c in token)
        table.append(b"" if plain else bytes(symbols[c] for c in token))
    return table


def bytes_per_id(tokenizer: Tokenizer) -> np.ndarray:
    """Return the number of bytes of every token: [V], int64."""
    return np.array([len(b) for b in token_bytes(tokenizer)], dtype=np.int64)


def compression(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Return bytes per token and tokens per filled line over some texts."""
    n_bytes = sum(len(text.encode()) for text in texts)
    n_lines = sum(bool(line.strip()) for text in texts for line in text.split("\n"))
    n_tokens = sum(len(encode(tokenizer, text)) for text in texts)
    return {
        "bytes_per_token": n_bytes / max(1, n_tokens),
        "tokens_per_line": n_tokens / max(1, n_lines),
    }
