"""Jobs on backends that may fail: reuse, failover in mid-decode, counters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.completion.engine import EngineUsage
from server.decoding.decoder import Decoder, Job
from server.decoding.generate import PREFILL_CHUNK_TOKENS
from server.decoding.kv_caches import KEPT_SHARE
from server.decoding.prompt import Prompt
from server.decoding.sampling import make_choose
from server.errors import BackendFailedError
from server.options import SamplingOptions
from tests.fakes import FAKE_SPEC, FakeBackend, FakeBackends

SCRIPT = list(range(10, 40))
END = 256


def clock() -> Callable[[], float]:
    """A clock that advances by a second whenever it is read."""
    return map(float, itertools.count()).__next__


def job(
    prompt: Sequence[int],
    *,
    healed: Sequence[int] = (),
    is_cancelled: Callable[[], bool] = lambda: False,
    temperature: float = 0.0,
    owner: str = "a",
) -> Job:
    return Job(
        prompt=Prompt(token_ids=tuple(prompt), healed_ids=tuple(healed)),
        choose=make_choose(SamplingOptions(temperature=temperature), np.random.default_rng(5)),
        end_ids=frozenset({END}),
        max_new_tokens=50,
        is_cancelled=is_cancelled,
        owner=owner,
    )


def run(decoder: Decoder, one: Job) -> tuple[list[int], EngineUsage]:
    usage = EngineUsage()
    return [token.token_id for token in decoder.run(one, usage)], usage


def noisy(tokens: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(sum(tokens)).normal(size=FAKE_SPEC.n_vocab).astype(np.float32)


def test_a_prompt_is_run_once_and_then_reused() -> None:
    backend = FakeBackend(SCRIPT)
    decoder = Decoder(FakeBackends(backend), clock())
    first, usage = run(decoder, job(SCRIPT[:10]))
    assert first == SCRIPT[10:]
    assert (usage.prompt_tokens, usage.reused_tokens, usage.prefilled_tokens) == (10, 0, 10)
    assert usage.new_tokens == 20
    again, usage = run(decoder, job(SCRIPT[:12]))
    assert again == SCRIPT[12:]
    assert (usage.prompt_tokens, usage.reused_tokens, usage.prefilled_tokens) == (12, 11, 1)


def test_what_was_warmed_is_not_run_again() -> None:
    backend = FakeBackend(SCRIPT)
    decoder = Decoder(FakeBackends(backend), clock())
    decoder.warm(Prompt(token_ids=tuple(SCRIPT[:20])), "a", lambda: False)
    _, usage = run(decoder, job(SCRIPT[:20]))
    assert (usage.reused_tokens, usage.prefilled_tokens) == (19, 1)


def test_time_up_to_the_first_token_is_prefill() -> None:
    decoder = Decoder(FakeBackends(FakeBackend(SCRIPT)), clock())
    _, usage = run(decoder, job(SCRIPT[:28]))
    assert usage.prefill_ms == 1000
    assert usage.decode_ms == 2000


def test_healed_tokens_that_are_confirmed_cost_no_pass() -> None:
    backend = FakeBackend(SCRIPT)
    decoder = Decoder(FakeBackends(backend), clock())
    tokens, usage = run(decoder, job(SCRIPT[:20], healed=SCRIPT[20:23]))
    assert tokens == SCRIPT[20:]
    assert backend.passes[0].token_ids == tuple(SCRIPT[:23])
    assert (usage.drafted_tokens, usage.accepted_tokens) == (3, 3)


def test_healed_tokens_that_the_network_replaces_do_not_stay_in_the_cache() -> None:
    backend = FakeBackend(SCRIPT)
    decoder = Decoder(FakeBackends(backend), clock())
    tokens, _ = run(decoder, job(SCRIPT[:20], healed=[20 + 10, 99]))
    assert tokens == SCRIPT[20:]
    assert backend.caches[0].token_ids == SCRIPT


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("fail_at", [0, 1, 5])
def test_a_failing_backend_is_replaced_without_repeating_or_losing_a_token(
    fail_at: int, temperature: float
) -> None:
    prompt = list(range(1, 40))
    whole, _ = run(
        Decoder(FakeBackends(FakeBackend(noisy)), clock()), job(prompt, temperature=temperature)
    )
    backends = FakeBackends(FakeBackend(noisy, fail_at=fail_at), FakeBackend(noisy))
    tokens, usage = run(Decoder(backends, clock()), job(prompt, temperature=temperature))
    assert tokens == whole
    assert len(backends.failures) == 1
    assert usage.new_tokens == len(whole)


def test_the_error_is_raised_when_no_backend_is_left() -> None:
    decoder = Decoder(FakeBackends(FakeBackend(SCRIPT, fail_at=2)), clock())
    usage = EngineUsage()
    tokens = decoder.run(job(SCRIPT[:5]), usage)
    assert [next(iter(tokens)).token_id, next(iter(tokens)).token_id] == SCRIPT[5:7]
    with pytest.raises(BackendFailedError):
        next(iter(tokens))


def test_a_backend_that_fails_in_warming_is_replaced() -> None:
    backends = FakeBackends(FakeBackend(SCRIPT, fail_at=0), FakeBackend(SCRIPT))
    decoder = Decoder(backends, clock())
    decoder.warm(Prompt(token_ids=(10, 11)), "a", lambda: False)
    assert len(backends.failures) == 1
    assert run(decoder, job(SCRIPT[:5]))[0] == SCRIPT[5:]


def test_a_backend_that_fails_in_warming_ahead_is_replaced() -> None:
    backends = FakeBackends(FakeBackend(SCRIPT, fail_at=0), FakeBackend(SCRIPT))
    decoder = Decoder(backends, clock())
    ahead, present = Prompt(token_ids=tuple(range(1, 50))), Prompt(token_ids=(1,))
    assert decoder.warm_ahead(ahead, present, "a", lambda: False) == 0
    assert len(backends.failures) == 1
    assert decoder.warm_ahead(ahead, present, "a", lambda: False) > 0


def test_a_cancelled_prefill_is_not_wasted() -> None:
    prompt = [1] * (3 * PREFILL_CHUNK_TOKENS)
    backend = FakeBackend(lambda tokens: END, spec=replace(FAKE_SPEC, n_ctx=len(prompt)))
    decoder = Decoder(FakeBackends(backend), clock())
    cancelled = job(prompt, is_cancelled=lambda: len(backend.passes) == 1)
    tokens, usage = run(decoder, cancelled)
    assert tokens == []
    assert cancelled.progress.finish_reason == "cancelled"
    assert usage.prefilled_tokens == PREFILL_CHUNK_TOKENS
    _, usage = run(decoder, job(prompt))
    assert usage.reused_tokens == PREFILL_CHUNK_TOKENS
    assert backend.n_prefilled == len(prompt)


@given(
    prompt=st.lists(st.integers(0, 255), min_size=1, max_size=12),
    n_said=st.integers(0, 8),
    n_kept=st.integers(0, 8),
    forced=st.lists(st.integers(0, 255), max_size=4),
    temperature=st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=80)
def test_forcing_what_was_typed_and_going_on_equals_a_fresh_prefill(
    prompt: list[int], n_said: int, n_kept: int, forced: list[int], temperature: float
) -> None:
    """A typist leaves the answer in flight after a few of its tokens and types others."""
    backend = FakeBackend(noisy)
    decoder = Decoder(FakeBackends(backend), clock())
    stream = decoder.run(job(prompt, temperature=temperature), EngineUsage())
    said = [token.token_id for token in itertools.islice(stream, n_said)]
    stream.close()
    kept = said[:n_kept]
    typed = [*prompt, *kept, *forced]
    tokens, usage = run(decoder, job(typed, temperature=temperature))
    fresh = Decoder(FakeBackends(FakeBackend(noisy)), clock())
    assert tokens == run(fresh, job(typed, temperature=temperature))[0]
    held = [*prompt, *said[:-1]] if said else []  # Of what was run; the last token never is.
    n_common = next(
        (n for n, pair in enumerate(zip(held, typed, strict=False)) if pair[0] != pair[1]),
        min(len(held), len(typed)),
    )
    if n_common >= KEPT_SHARE * min(len(typed), len(held)):
        assert usage.reused_tokens >= min(n_common, len(typed) - 1), "in the same cache"


def test_two_answers_in_turn_do_not_touch_each_others_cache() -> None:
    backend = FakeBackend(noisy)
    decoder = Decoder(FakeBackends(backend), clock())
    prompts = [1, 2, 3], [1, 2, 4]
    alone = [run(decoder, job(prompt))[0] for prompt in prompts]
    first, second = (decoder.run(job(prompt), EngineUsage()) for prompt in prompts)
    pairs = list(itertools.zip_longest(first, second))
    assert [a.token_id for a, _ in pairs if a] == alone[0]
    assert [b.token_id for _, b in pairs if b] == alone[1]


def test_an_owners_caches_are_forgotten() -> None:
    decoder = Decoder(FakeBackends(FakeBackend(SCRIPT)), clock())
    run(decoder, job(SCRIPT[:10], owner="a"))
    decoder.forget("a")
    _, usage = run(decoder, job(SCRIPT[:10], owner="a"))
    assert usage.reused_tokens == 0


def test_tokens_are_rated_by_what_the_network_expects_after_the_prompt() -> None:
    backend = FakeBackend(noisy)
    decoder = Decoder(FakeBackends(backend), clock())
    prompt, tokens = list(range(20)), [40, 41, 42]
    expected = []
    for place, token in enumerate(tokens):
        row = noisy(tuple(prompt + tokens[:place]))
        expected.append(float(row[token] - np.log(np.exp(row).sum())))
    for _ in range(2):  # The second time, what was run is there already.
        rating = decoder.rate(prompt, tokens, "a", lambda: False)
        assert rating == pytest.approx(np.mean(expected), abs=1e-5)


def test_rating_after_a_completion_runs_only_what_is_new() -> None:
    backend = FakeBackend(SCRIPT)
    decoder = Decoder(FakeBackends(backend), clock())
    run(decoder, job(SCRIPT[:10]))
    before = backend.n_prefilled
    decoder.rate(SCRIPT[:12], SCRIPT[12:15], "a", lambda: False)
    assert backend.n_prefilled - before <= 3


def test_a_cancelled_rating_is_none() -> None:
    decoder = Decoder(FakeBackends(FakeBackend(SCRIPT)), clock())
    assert decoder.rate(SCRIPT[:20], [1], "a", lambda: True) is None
