"""A recurrent checkpoint behind the server's contract: the same logits however it is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from server.backends.contract import BackendOptions
from server.completion.completer import Completer
from server.completion.engine import CancelToken, EngineRequest, EngineUsage
from server.errors import CompletionServerError
from server.options import Options
from server.plugins import Plugins
from training.checkpoint import foretype_facts, load_model, save_model
from training.config import ModelConfig
from training.model import build_model
from training.recurrent import NAME, RecurrentBackend, RecurrentEngine, bundle_of
from training.tokenizer import special_ids

IDS = [7, 9, 11, 13, 15, 17, 19]


@pytest.fixture(params=["lstm", "rnn"])
def checkpoint(request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """Return the folder of a small network with random weights."""
    sizes = ModelConfig(kind=request.param, n_layer=2, n_embd=24, n_head=1)
    model = build_model(sizes, tokenizer.get_vocab_size(), special_ids(tokenizer).end, seed=2)
    save_model(tmp_path / request.param, model, tokenizer, foretype_facts("Apache-2.0"))
    return tmp_path / request.param


@pytest.fixture
def backend(checkpoint: Path) -> RecurrentBackend:
    return RecurrentBackend.load(bundle_of(checkpoint), BackendOptions(n_threads=1))


def test_logits_are_those_of_the_network(backend: RecurrentBackend, checkpoint: Path) -> None:
    model, _ = load_model(checkpoint)
    with torch.inference_mode():
        expected = model(torch.tensor([IDS]))[0].numpy()
    np.testing.assert_allclose(
        backend.forward(IDS, backend.new_cache(), len(IDS)), expected, atol=1e-5
    )


def test_reading_in_pieces_and_taking_back_changes_nothing(backend: RecurrentBackend) -> None:
    whole = backend.forward(IDS, backend.new_cache())
    cache = backend.new_cache()
    backend.forward(IDS[:5], cache)
    backend.forward([1, 2, 3], cache)
    cache.truncate(4)  # Into the middle of the first pass: there is no state of that moment.
    assert cache.n_tokens == 4
    np.testing.assert_allclose(backend.forward(IDS[4:], cache), whole, atol=1e-5)
    assert cache.n_bytes > 0
    with pytest.raises(ValueError, match="truncate"):
        cache.truncate(8)


def test_the_engine_gives_what_greedy_reading_gives(checkpoint: Path) -> None:
    engine = RecurrentEngine.load(Options(model=str(checkpoint), threads=1))
    assert engine.info.backend == NAME
    request = EngineRequest(
        document="a.py", prefix="class Queue:\n    ", suffix="", max_new_tokens=6
    )
    texts = [
        "".join(d.text for d in engine.stream(request, CancelToken(), EngineUsage()))
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    engine.close()


async def test_the_server_finds_it_as_a_plugin(checkpoint: Path) -> None:
    options = Options(engine=NAME, model=str(checkpoint), threads=1)
    completer = Completer(options, Plugins(), on_status=lambda _: None)
    completer.start()
    try:
        assert await asyncio.wait_for(completer.wait_ready(), 60)
    finally:
        await completer.close()


def test_another_network_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    sizes = ModelConfig(n_layer=1, n_embd=16, n_head=1, n_ctx=32)
    model = build_model(sizes, tokenizer.get_vocab_size(), special_ids(tokenizer).end, seed=2)
    save_model(tmp_path, model, tokenizer, foretype_facts("Apache-2.0"))
    with pytest.raises(CompletionServerError, match="no recurrent network"):
        RecurrentEngine.load(Options(model=str(tmp_path)))
