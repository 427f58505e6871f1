"""The graph for CUDA against fp32 PyTorch, and its captured pass against the plain one.

Everywhere on the CPU, whose kernels compute the same in half precision; on CUDA where it is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.pipeline import ExportOptions, export_bundle
from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.backends.predictions import Prediction, log_softmax
from server.backends.pytorch_network import load_network
from server.bundle import EMBEDDED_FOLDER, Bundle, read_bundle
from tests.server.backends.conftest import MakeBundle, load_or_skip

CPU = BackendOptions(device="cpu", n_threads=1)
N_GREEDY = 256
TOLERANCE = 0.01  # relative, of half precision; measured on the CPU: 0.001 to 0.003
SAME = 1e-3  # between two orders of summing halves

Load = Callable[[Bundle, bool], Backend]


def random_ids(n: int, seed: int = 0) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 264, n)]


def relative_error(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """Return a function that loads a bundle on a device, with passes captured or not."""
    loaded: list[OrtBackend] = []

    def load_on(bundle: Bundle, captures: bool) -> Backend:
        options = replace(CPU, device=request.param, captures=captures)
        loaded.append(load_or_skip(bundle, options))
        return loaded[-1]

    yield load_on
    for backend in loaded:
        backend.close()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded model's weights, exported for CUDA."""
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "embedded"
    shutil.copytree(EMBEDDED_FOLDER / "checkpoint", checkpoint)
    shutil.copy(EMBEDDED_FOLDER / "tokenizer.json", checkpoint)
    folder = tmp_path_factory.mktemp("bundle") / "half"
    options = ExportOptions(model=str(checkpoint), output=folder, dtype="fp16", device="cuda")
    export_bundle(options, lambda step: None)
    return read_bundle(folder)


@pytest.fixture(scope="module")
def text(embedded: Bundle) -> list[int]:
    """Tokens of Python."""
    from server.decoding.tokenizer import Tokenizer

    spec = embedded.manifest.spec
    tokenizer = Tokenizer.from_file(embedded.tokenizer_path, spec.n_vocab, {0})
    return tokenizer.encode(Path(__file__).read_text(encoding="utf-8"))


def test_logits_stay_near_fp32_pytorch(load: Load, embedded: Bundle, text: list[int]) -> None:
    import torch

    assert embedded.checkpoint_path is not None
    network = load_network(embedded.checkpoint_path, embedded.manifest.spec)
    with torch.inference_mode():
        wanted = network(torch.tensor([text[:200]])).logits[0].numpy()
    backend = load(embedded, False)
    cache = backend.new_cache()
    found = [backend.forward(text[:100], cache, 100).copy()]
    found += [backend.forward(text[i : i + 1], cache).copy() for i in range(100, 150)]
    found.append(backend.forward(text[150:200], cache, 50))
    assert relative_error(np.concatenate(found), wanted) < TOLERANCE


@pytest.mark.parametrize("captures", [False, True])
def test_greedy_tokens_agree_with_fp32_pytorch(
    load: Load, embedded: Bundle, text: list[int], captures: bool
) -> None:
    """Each token after PyTorch's own, so that one difference is counted once."""
    import torch

    assert embedded.checkpoint_path is not None
    network = load_network(embedded.checkpoint_path, embedded.manifest.spec)
    backend = load(embedded, captures)
    cache = backend.new_cache()
    fed, past, n_equal = text[:64], None, 0
    for _ in range(N_GREEDY):
        with torch.inference_mode():
            output = network(torch.tensor([fed]), past_key_values=past, use_cache=True)
        found = backend.predict(fed, cache)[-1].best_id
        past, fed = output.past_key_values, [int(output.logits[0, -1].argmax())]
        n_equal += found == fed[0]
    assert n_equal >= 0.98 * N_GREEDY


@pytest.mark.parametrize("captures", [False, True])
def test_predictions_are_those_of_the_logits(
    load: Load, make_bundle: MakeBundle, captures: bool
) -> None:
    backend = load(make_bundle("gpt2", "fused", "fp16"), captures)
    ids = random_ids(30)
    mine, yours = backend.new_cache(), backend.new_cache()
    for start, end in [(0, 12), (12, 13), (13, 14), (14, 19), (19, 20)]:
        for n_rows in {1, end - start}:
            mine.truncate(start)
            yours.truncate(start)
            wanted = [log_softmax(r) for r in backend.forward(ids[start:end], mine, n_rows).copy()]
            predictions = backend.predict(ids[start:end], yours, n_rows)
            assert len(predictions) == n_rows
            for row, prediction in zip(wanted, predictions, strict=True):
                agrees(prediction, row)
    assert backend.predict(ids[20:25], yours, 0) == []


def agrees(prediction: Prediction, wanted: npt.NDArray[Any]) -> None:
    found = prediction.log_probs()
    assert relative_error(found, wanted) < SAME
    assert prediction.best_id == found.argmax()
    assert prediction.best_logprob == found.max()


def test_captured_passes_of_several_caches_never_mix(load: Load, make_bundle: MakeBundle) -> None:
    """By turns, cut and gone on with; their buffers were others' before."""
    backend = load(make_bundle("gpt2", "fused", "fp16"), True)
    texts = [random_ids(24, seed) for seed in range(6)]
    wanted = [backend.forward(ids, backend.new_cache(), 24).copy() for ids in texts]
    caches = [backend.new_cache() for _ in texts]
    assert len({id(cache.captured) for cache in caches}) == 6
    for ids, cache in zip(texts, caches, strict=True):
        backend.predict(ids[:8], cache, 0)
    for step in [*range(8, 20), *range(15, 24)]:  # The second time five tokens are taken back.
        for ids, cache, rows in zip(texts, caches, wanted, strict=True):
            cache.truncate(step)
            (prediction,) = backend.predict([ids[step]], cache)
            assert relative_error(prediction.log_probs(), log_softmax(rows[step])) < SAME
