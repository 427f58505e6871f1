"""A tiny life for the tests: tokenizer and tokens learned once from a few texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training.config import Config, CorpusConfig, ModelConfig, OptimizerConfig, RunConfig, Stage
from training.packing import pack
from training.tokenizer import learn_tokenizer
from training.trainer import Data

N_VOCAB = 320
TEXT = '''"""A queue with a limit."""


class Queue:
    """First in, first out, and never more than `limit` items."""

    def __init__(self, limit: int) -> None:
        self.items: list[object] = []
        self.limit = limit

    def push(self, item: object) -> bool:
        if len(self.items) >= self.limit:
            return False
        self.items.append(item)
        return True

    def pop(self) -> object:
        if not self.items:
            raise IndexError("pop from an empty queue")
        return self.items.pop(0)
'''


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Return a byte-level BPE of 320 tokens, learned from one text."""
    return learn_tokenizer([TEXT] * 4, N_VOCAB)


@pytest.fixture(scope="session")
def data(tokenizer: Tokenizer) -> Data:
    """Return packed tokens: three documents to train on, one to look at."""
    texts = [TEXT, TEXT.replace("Queue", "Stack"), TEXT.replace("item", "thing")]
    return Data(
        train=pack(tokenizer, texts, "train"),
        dev=pack(tokenizer, [TEXT.replace("limit", "most")], "dev"),
    )


@pytest.fixture
def config() -> Config:
    """Return an experiment that takes a second."""
    return Config(
        name="test",
        folder=Path(),
        corpus=CorpusConfig(manifest="none.toml"),
        model=ModelConfig(n_layer=2, n_head=2, n_embd=32, n_ctx=64),
        stages=(Stage(from_step=0, n_rows=2, n_ctx=32), Stage(from_step=6, n_rows=2, n_ctx=64)),
        optimizer=OptimizerConfig(),
        run=RunConfig(
            n_steps=12, n_threads=1, log_every_steps=4, eval_every_steps=6, n_eval_windows=2
        ),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(5)
