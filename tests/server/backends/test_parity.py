"""All backends answer alike, however the tokens are split into passes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.backends.pytorch import PyTorchBackend
from server.bundle import Bundle
from tests.server.backends.conftest import N_CTX, MakeBundle

CPU = BackendOptions(device="cpu", n_threads=1)
NETWORKS = [
    ("gpt2", "fused"),
    ("gpt_bigcode", "fused"),
    ("gpt2", "portable"),
    ("gpt_bigcode", "portable"),
    ("gpt_neox", "portable"),
    ("llama", "portable"),
    ("qwen2", "portable"),
]
KINDS: dict[str, type[Backend]] = {"ort": OrtBackend, "pytorch": PyTorchBackend}
TOLERANCE = 1e-5  # relative, fp32; measured: 3e-7

Array = npt.NDArray[np.float32]


def random_ids(n: int, seed: int = 0) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 264, n)]


def relative_error(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(params=NETWORKS, ids="-".join)
def bundle(request: pytest.FixtureRequest, make_bundle: MakeBundle) -> Bundle:
    return make_bundle(*request.param)


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Backend]:
    loaded = KINDS[request.param].load(bundle, CPU)
    yield loaded
    loaded.close()


@pytest.fixture
def reference(bundle: Bundle) -> Array:
    """Logits of 40 tokens, all in one pass, by transformers itself."""
    import torch

    from server.backends.pytorch_network import load_network

    assert bundle.checkpoint_path is not None
    network = load_network(bundle.checkpoint_path, bundle.manifest.spec)
    with torch.inference_mode():
        logits: Array = network(torch.tensor([random_ids(40)])).logits[0].numpy()
    return logits


def test_prefill_agrees_with_transformers(backend: Backend, reference: Array) -> None:
    found = backend.forward(random_ids(40), backend.new_cache(), 40)
    assert relative_error(found, reference) < TOLERANCE


@pytest.mark.parametrize("widths", [[20] + [1] * 20, [20, 1, 9, 10], [1] * 40, [7, 33]])
def test_chunks_agree_with_one_pass(backend: Backend, reference: Array, widths: list[int]) -> None:
    cache, ids, found = backend.new_cache(), random_ids(40), []
    for width in widths:
        found.append(backend.forward(ids[:width], cache, width).copy())
        ids = ids[width:]
    assert cache.n_tokens == 40
    assert relative_error(np.concatenate(found), reference) < TOLERANCE


@pytest.mark.parametrize("kept", [0, 1, 19, 30])
def test_truncate_and_continue_agrees_with_a_fresh_cache(
    backend: Backend, reference: Array, kept: int
) -> None:
    cache, ids = backend.new_cache(), random_ids(40)
    backend.forward(ids[:30], cache)
    backend.forward(random_ids(9, seed=1), cache, 0)
    cache.truncate(35)
    cache.truncate(kept)
    assert cache.n_tokens == kept
    found = backend.forward(ids[kept:], cache, 40 - kept)
    assert relative_error(found, reference[kept:]) < TOLERANCE


def test_fewer_logits_are_the_last_ones(backend: Backend, reference: Array) -> None:
    for n_logits in (1, 3, 40, 2):
        found = backend.forward(random_ids(40), backend.new_cache(), n_logits)
        assert found.shape == (n_logits, 264)
        assert found.dtype == np.float32
        assert relative_error(found, reference[40 - n_logits :]) < TOLERANCE
    assert backend.forward(random_ids(5), backend.new_cache(), 0).shape == (0, 264)


def test_several_caches_never_mix(backend: Backend, reference: Array) -> None:
    ids, others = random_ids(40), random_ids(40, seed=2)
    mine, yours = backend.new_cache(), backend.new_cache()
    found = []
    for start in range(0, 40, 4):
        chunk = slice(start, start + 4)
        found.append(backend.forward(ids[chunk], mine, 4).copy())
        backend.forward(others[chunk], yours, 4)
        if start == 20:
            yours.truncate(3)
    assert relative_error(np.concatenate(found), reference) < TOLERANCE


def test_a_full_context_is_used_to_its_last_token(backend: Backend) -> None:
    ids = random_ids(N_CTX)
    whole = backend.forward(ids, backend.new_cache()).copy()
    cache = backend.new_cache()
    backend.forward(ids[:-1], cache, 0)
    assert relative_error(backend.forward(ids[-1:], cache), whole) < TOLERANCE
    with pytest.raises(ValueError, match="exceed the context"):
        backend.forward([1], cache)


def test_arguments_out_of_range_are_refused(backend: Backend) -> None:
    cache = backend.new_cache()
    backend.forward(random_ids(3), cache)
    for token_ids, n_logits in ([], 0), ([1], 2), ([1], -1), ([-1], 1), ([264], 1):
        with pytest.raises(ValueError, match=r"at least one|n_logits|vocabulary"):
            backend.forward(token_ids, cache, n_logits)
    for n_tokens in (-1, 4):
        with pytest.raises(ValueError, match="can't truncate"):
            cache.truncate(n_tokens)
    assert cache.n_tokens == 3


def test_a_cache_tells_its_memory(backend: Backend) -> None:
    cache = backend.new_cache()
    backend.forward(random_ids(N_CTX), cache)
    spec = backend.spec
    n_values = 2 * spec.n_layer * spec.n_kv_head * spec.head_width * N_CTX
    # PyTorch's values, or both, may be views of one tensor with the queries.
    n_more = 2 * N_CTX * spec.n_layer * spec.n_embd
    assert 4 * n_values <= cache.n_bytes <= 4 * (n_values + n_more)


@pytest.mark.parametrize(("dtype", "tolerance"), [("int8", 0.05), ("int4", 0.5)])
def test_quantized_weights_stay_near_the_checkpoint(
    make_bundle: MakeBundle, dtype: str, tolerance: float
) -> None:
    bundle = make_bundle("gpt2", "fused", dtype)
    ids = random_ids(40)
    ort, pytorch = OrtBackend.load(bundle, CPU), PyTorchBackend.load(bundle, CPU)
    found = ort.forward(ids, ort.new_cache(), 40)
    wanted = pytorch.forward(ids, pytorch.new_cache(), 40)
    assert relative_error(found, wanted) < tolerance


def test_both_backends_generate_the_same_tokens(make_bundle: MakeBundle) -> None:
    """Greedy decoding follows the first difference, so equal text means equal networks."""
    bundle = make_bundle()
    texts = []
    for kind in KINDS.values():
        backend = kind.load(bundle, CPU)
        cache = backend.new_cache()
        token_ids = random_ids(8)
        logits = backend.forward(token_ids, cache)
        for _ in range(N_CTX - 9):
            token_ids.append(int(logits[-1].argmax()))
            logits = backend.forward(token_ids[-1:], cache)
        texts.append(token_ids)
    assert texts[0] == texts[1]
