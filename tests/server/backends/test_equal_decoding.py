"""What makes decoding quick changes no token: the decoder on exported networks in fp32.

Drafts, caches that were used before, chunks, and the buffers that a fused graph's input and output
share: each against the plain way, on onnxruntime, token for token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.backends.predictions import LogProbs
from server.completion.engine import EngineUsage
from server.decoding.decoder import Decoder, Job
from server.decoding.generate import Propose, no_draft, prefill
from server.decoding.kv_caches import CachedSequence
from server.decoding.prompt import Prompt
from server.decoding.sampling import make_choose
from server.options import SamplingOptions
from tests.fakes import FakeBackends
from tests.server.backends.conftest import N_CTX, MakeBundle, load_or_skip

CPU = BackendOptions(device="cpu", n_threads=1)
LAYOUTS = ("fused", "portable")
N_VOCAB = 264
N_NEW = 16


def random_ids(n: int, seed: int = 0) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, N_VOCAB, n)]


@pytest.fixture(
    params=[
        "fused",
        "portable",
        "for cuda",
        "for cuda, captured",
        pytest.param("on cuda", marks=pytest.mark.gpu),
        pytest.param("on cuda, captured", marks=pytest.mark.gpu),
    ]
)
def backend(request: pytest.FixtureRequest, make_bundle: MakeBundle) -> Iterator[Backend]:
    """A graph for CUDA runs on the CPU as well; what is captured there runs as it is."""
    how: str = request.param
    if how in LAYOUTS:
        bundle, options = make_bundle("gpt2", how), CPU
    else:
        bundle = make_bundle("gpt2", "fused", "fp16")
        device = "cuda" if how.startswith("on") else "cpu"
        options = replace(CPU, device=device, captures=how.endswith("captured"))
    loaded = load_or_skip(bundle, options)
    yield loaded
    loaded.close()


def new_decoder(backend: Backend) -> Decoder:
    return Decoder(FakeBackends(backend), lambda: 0.0)


def job(
    prompt: Sequence[int],
    *,
    owner: str = "a",
    temperature: float = 0.0,
    propose: Propose = no_draft,
) -> Job:
    options = SamplingOptions(temperature=temperature)
    return Job(
        prompt=Prompt(token_ids=tuple(prompt)),
        choose=make_choose(options, np.random.default_rng(0)),
        end_ids=frozenset(),
        max_new_tokens=N_NEW,
        is_cancelled=lambda: False,
        owner=owner,
        propose=propose,
    )


def said(decoder: Decoder, asked: Job) -> tuple[list[int], EngineUsage]:
    usage = EngineUsage()
    tokens = [token.token_id for token in decoder.run(asked, usage)]
    return tokens, usage


def drafts(plain: Sequence[int], n_right: int, n_wrong: int) -> Propose:
    """Propose so many tokens of the plain answer, then so many that are not in it."""

    def propose(generated: Sequence[int]) -> Sequence[int]:
        start = len(generated)
        right = list(plain[start : start + n_right])
        following = plain[start + len(right) : start + len(right) + n_wrong]
        return right + [(token + 1) % N_VOCAB for token in following]

    return propose


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("n_right", "n_wrong"), [(8, 0), (3, 2), (0, 5), (1, 1)])
def test_speculative_decoding_equals_plain_decoding(
    backend: Backend, n_right: int, n_wrong: int, temperature: float
) -> None:
    for seed in range(4):
        prompt = random_ids(20, seed)
        plain, _ = said(new_decoder(backend), job(prompt, temperature=temperature))
        propose = drafts(plain, n_right, n_wrong)
        asked = job(prompt, temperature=temperature, propose=propose)
        drafted, usage = said(new_decoder(backend), asked)
        assert drafted == plain
        assert len(plain) == N_NEW
        assert (usage.accepted_tokens > 0) == (n_right > 0)
        assert usage.drafted_tokens > usage.accepted_tokens or n_wrong == 0


def test_a_cache_that_was_used_before_answers_as_a_fresh_one(backend: Backend) -> None:
    """Typing, deleting, going elsewhere and coming back, warming and reading ahead in between."""
    decoder = new_decoder(backend)
    text, other = random_ids(40), random_ids(40, seed=1)
    edited = [*text[:12], *random_ids(15, seed=2)]
    prompts = [text[:20], text[:21], text[:26], text[:18], edited, other[:25], text[:30], edited]
    n_reused = 0
    for prompt in prompts:
        asked = job(prompt)
        fresh, _ = said(new_decoder(backend), job(prompt))
        found, usage = said(decoder, asked)
        assert found == fresh
        n_reused += usage.reused_tokens
        ahead = Prompt(token_ids=tuple(random_ids(N_CTX, seed=3)))
        decoder.warm_ahead(ahead, asked.prompt, "a", lambda: False)
        decoder.warm(Prompt(token_ids=tuple([*prompt, 7])), "a", lambda: False)
    assert n_reused > 80


@pytest.mark.parametrize("chunk_tokens", [1, 5, 8, 39])
def test_a_prefill_in_chunks_equals_a_whole_one(backend: Backend, chunk_tokens: int) -> None:
    prompt = random_ids(40)
    rows: list[LogProbs] = []
    for size in (len(prompt), chunk_tokens):
        sequence = CachedSequence(backend)
        prefill(sequence, prompt[:-1], is_cancelled=lambda: False, chunk_tokens=size)
        rows.append(sequence.forward(prompt[-1:], n_rows=1)[0].log_probs())
    whole, chunked = rows
    assert np.linalg.norm(chunked - whole) < 1e-5 * np.linalg.norm(whole)
    assert chunked.argmax() == whole.argmax()


def test_a_shared_buffer_equals_concatenation(make_bundle: MakeBundle) -> None:
    """The same checkpoint in both layouts, over caches that are cut and gone on with."""
    answers = []
    for layout in LAYOUTS:
        backend = OrtBackend.load(make_bundle("gpt2", layout), CPU)
        decoder = new_decoder(backend)
        prompts = [random_ids(n, seed) for n, seed in [(20, 0), (25, 0), (9, 0), (25, 1), (30, 0)]]
        answers.append([said(decoder, job(prompt)) for prompt in prompts])
        backend.close()
    fused, portable = answers
    assert [tokens for tokens, _ in fused] == [tokens for tokens, _ in portable]
    assert [usage.reused_tokens for _, usage in fused] == [
        usage.reused_tokens for _, usage in portable
    ]


def test_answers_that_grow_by_turns_never_mix(backend: Backend) -> None:
    decoder = new_decoder(backend)
    prompts = {name: random_ids(12 + n, seed=n) for n, name in enumerate("abc")}
    prompts["d"] = [*prompts["a"][:-1], 7]
    for ids in prompts.values():  # Two of them would both go on with what this leaves.
        decoder.warm(Prompt(token_ids=tuple(ids)), "a", lambda: False)
    alone = {name: said(new_decoder(backend), job(ids))[0] for name, ids in prompts.items()}
    running = {
        name: decoder.run(job(ids, owner=name), EngineUsage()) for name, ids in prompts.items()
    }
    grown: dict[str, list[int]] = {name: [] for name in prompts}
    for _ in range(N_NEW // 2):
        for name, tokens in running.items():
            grown[name] += [token.token_id for token in islice(tokens, 2)]
    assert grown == alone
    assert [list(tokens) for tokens in running.values()] == [[]] * 4
    # What each left behind is its own as well.
    for name, ids in prompts.items():
        again, usage = said(decoder, job(ids, owner=name))
        assert again == alone[name]
        assert usage.reused_tokens == len(ids) - 1
