"""The tokenizer gives every text back, and keeps special tokens out of plain text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.errors import CheckpointError, CorpusError
from training.tokenizer import (
    SPECIAL_TOKENS,
    compression,
    encode,
    learn_tokenizer,
    load_tokenizer,
    special_ids,
    token_bytes,
)

LEARNED = learn_tokenizer(["def f(x):\n        return x\n" * 40], 300)
BYTES = token_bytes(LEARNED)


@given(st.text())
@settings(max_examples=200)
def test_any_text_survives_the_round_trip(text: str) -> None:
    text = text.encode("utf-8", errors="ignore").decode()
    ids = encode(LEARNED, text)
    assert b"".join(BYTES[i] for i in ids) == text.encode()
    assert LEARNED.decode(ids) == text


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_any_bytes_have_tokens(data: bytes) -> None:
    by_byte = {b[0]: i for i, b in enumerate(BYTES) if len(b) == 1}
    ids = [by_byte[b] for b in data]
    assert b"".join(BYTES[i] for i in ids) == data


def test_spelled_special_tokens_are_plain_text(tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    ids = encode(tokenizer, "x = '<|endoftext|>'")
    assert special.end not in ids
    assert tokenizer.decode(ids) == "x = '<|endoftext|>'"


def test_special_tokens_come_first_and_have_no_bytes(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert token_bytes(tokenizer)[:4] == [b""] * 4


def test_an_indentation_is_one_token() -> None:
    assert b"\n       " in BYTES
    assert compression(LEARNED, ["def f(x):\n        return x\n"])["bytes_per_token"] >= 3


def test_a_saved_tokenizer_reads_alike(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    again = load_tokenizer(path)
    assert encode(again, "self.items <|fim_middle|>") == encode(
        tokenizer, "self.items <|fim_middle|>"
    )


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(CorpusError, match="the least is 260"):
        learn_tokenizer(["x"], 200)
