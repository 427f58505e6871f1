"""Batches depend on cursor and seed alone, and keep their shape whatever is cut."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.batches import IGNORED, Batches
from training.config import FimConfig
from training.errors import CorpusError
from training.tokenizer import special_ids
from training.trainer import Data


def make(data: Data, tokenizer: Tokenizer, rate: float, seed: int = 1) -> Batches:
    return Batches(data.train, tokenizer, FimConfig(rate=rate), n_ctx=64, seed=seed)


def test_labels_are_the_next_tokens(data: Data, tokenizer: Tokenizer) -> None:
    ids, labels = make(data, tokenizer, 0.0).batch(0, 4, 32)
    assert ids.shape == labels.shape == (4, 32)
    assert (ids[:, 1:] == labels[:, :-1]).all()


def test_the_same_cursor_gives_the_same_batch(data: Data, tokenizer: Tokenizer) -> None:
    once = make(data, tokenizer, 0.5).batch(128, 4, 32)
    again = make(data, tokenizer, 0.5).batch(128, 4, 32)
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_another_seed_gives_another_order(data: Data, tokenizer: Tokenizer) -> None:
    one, _ = make(data, tokenizer, 0.0, seed=1).batch(0, 8, 64)
    two, _ = make(data, tokenizer, 0.0, seed=2).batch(0, 8, 64)
    assert not np.array_equal(one, two)


def test_an_epoch_sees_every_block_once(data: Data, tokenizer: Tokenizer) -> None:
    batches = make(data, tokenizer, 0.0)
    n_blocks = batches.epoch_tokens // 64
    ids, _ = batches.batch(0, n_blocks, 64)
    expected = np.sort(np.asarray(data.train[: n_blocks * 64]).reshape(n_blocks, 64), axis=0)
    assert np.array_equal(np.sort(ids, axis=0), expected)
    later, _ = batches.batch(batches.epoch_tokens, n_blocks, 64)
    assert np.array_equal(np.sort(later, axis=0), expected)
    assert not np.array_equal(later, ids)


def test_short_windows_divide_the_same_blocks(data: Data, tokenizer: Tokenizer) -> None:
    """A context that grows must not show the model the same tokens again."""
    batches = make(data, tokenizer, 0.0)
    short, _ = batches.batch(0, 4, 32)
    long, _ = batches.batch(0, 2, 64)
    assert np.array_equal(short.reshape(2, 64), long)


def test_cut_windows_keep_their_length_and_end(data: Data, tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    ids, labels = make(data, tokenizer, 1.0).batch(0, 64, 64)
    assert ids.shape == (64, 64)
    assert ids.min() >= 0
    assert set(np.unique(labels[labels < 0])) <= {IGNORED}
    starts = ids[:, 0] == special.prefix
    assert starts.mean() > 0.5
    spm = starts & (ids[:, 1] == special.suffix)
    assert 0.2 < spm.sum() / starts.sum() < 0.8
    for token in (special.suffix, special.middle):
        assert ((ids == token).sum(axis=1)[starts] >= 1).all()


def test_too_little_text_is_said(tokenizer: Tokenizer) -> None:
    with pytest.raises(CorpusError, match="too few for one window of 64"):
        Batches(np.zeros(10, np.uint16), tokenizer, FimConfig(), n_ctx=64, seed=1)
