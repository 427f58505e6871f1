"""Prefill and decode on a scripted network: what is run, what is chosen, why it ends."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.contract import Logits
from server.decoding.generate import Progress, Propose, generate_tokens, no_draft, prefill
from server.decoding.kv_caches import CachedSequence
from server.decoding.sampling import Choose, make_choose
from server.options import SamplingOptions
from tests.fakes import FAKE_SPEC, FakeBackend

SCRIPT = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
END = 256


def never() -> bool:
    return False


def greedy() -> Choose:
    return make_choose(SamplingOptions(), np.random.default_rng(0))


def run(
    backend: FakeBackend,
    prompt: Sequence[int],
    *,
    progress: Progress | None = None,
    choose: Choose | None = None,
    max_new_tokens: int = 50,
    is_cancelled: Callable[[], bool] = never,
    propose: Propose = no_draft,
    sequence: CachedSequence | None = None,
) -> Progress:
    """Generate to the end; return how it went."""
    progress = progress or Progress()
    tokens = generate_tokens(
        sequence or CachedSequence(backend),
        prompt,
        progress,
        choose=choose or greedy(),
        end_ids=frozenset({END}),
        max_new_tokens=max_new_tokens,
        is_cancelled=is_cancelled,
        propose=propose,
    )
    n_before = len(progress.generated)
    assert [t.token_id for t in tokens] == progress.generated[n_before:]
    return progress


def noisy(tokens: tuple[int, ...]) -> Logits:
    """Logits that follow from all tokens before, with no pattern."""
    seed = zlib.crc32(bytes(str(tokens), "ascii"))
    return 3 * np.random.default_rng(seed).normal(size=FAKE_SPEC.n_vocab).astype(np.float32)


def test_it_ends_at_the_end_token_which_is_not_yielded() -> None:
    progress = run(FakeBackend(SCRIPT), SCRIPT[:3])
    assert progress.generated == SCRIPT[3:]
    assert progress.finish_reason == "stop"


def test_it_ends_at_the_limit() -> None:
    backend = FakeBackend(SCRIPT)
    progress = run(backend, SCRIPT[:3], max_new_tokens=2)
    assert progress.generated == SCRIPT[3:5]
    assert progress.finish_reason == "length"
    assert len(backend.passes) == 2


def test_it_ends_where_the_context_is_full() -> None:
    backend = FakeBackend(lambda tokens: 5)
    progress = run(backend, [1] * (FAKE_SPEC.n_ctx - 2))
    assert progress.generated == [5, 5, 5]
    assert progress.finish_reason == "length"
    assert backend.caches[0].n_tokens == FAKE_SPEC.n_ctx


def test_it_ends_between_two_passes_when_cancelled() -> None:
    backend = FakeBackend(SCRIPT)
    progress = run(backend, SCRIPT[:3], is_cancelled=lambda: len(backend.passes) == 2)
    assert progress.generated == SCRIPT[3:5]
    assert progress.finish_reason == "cancelled"


def test_each_pass_runs_one_token_after_the_first() -> None:
    backend = FakeBackend(SCRIPT)
    run(backend, SCRIPT[:3])
    assert [one.token_ids for one in backend.passes][:3] == [(10, 11, 12), (13,), (14,)]


def test_a_prompt_that_the_cache_holds_wholly_costs_one_token() -> None:
    backend = FakeBackend(SCRIPT)
    sequence = CachedSequence(backend)
    assert prefill(sequence, SCRIPT[:4], is_cancelled=never)
    run(backend, SCRIPT[:4], sequence=sequence, max_new_tokens=1)
    assert backend.passes[-1].token_ids == (13,)


def test_it_goes_on_after_tokens_that_there_are() -> None:
    progress = run(FakeBackend(SCRIPT), SCRIPT[:3], progress=Progress(generated=SCRIPT[3:6]))
    assert progress.generated == SCRIPT[3:]


def test_a_consumer_may_stop_at_any_token_and_the_cache_stays_true() -> None:
    backend = FakeBackend(SCRIPT)
    sequence = CachedSequence(backend)
    progress = Progress()
    tokens = generate_tokens(
        sequence,
        SCRIPT[:3],
        progress,
        choose=greedy(),
        end_ids=frozenset({END}),
        max_new_tokens=9,
        is_cancelled=never,
    )
    next(iter(tokens))
    assert progress.finish_reason is None
    assert sequence.count_common(SCRIPT) == sequence.n_tokens == 3


@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 100])
def test_prefill_in_chunks_equals_prefill_at_once(chunk_tokens: int) -> None:
    backend = FakeBackend(noisy)
    prompt = list(range(20))
    sequence = CachedSequence(backend)
    assert prefill(sequence, prompt, is_cancelled=never, chunk_tokens=chunk_tokens)
    assert max(len(one.token_ids) for one in backend.passes) <= chunk_tokens
    whole = run(FakeBackend(noisy), prompt, max_new_tokens=10)
    assert run(backend, prompt, sequence=sequence, max_new_tokens=10) == whole


def test_prefill_leaves_what_it_is_told_to() -> None:
    backend = FakeBackend()
    sequence = CachedSequence(backend)
    assert prefill(sequence, range(20), is_cancelled=never, n_left=9, chunk_tokens=8)
    assert sequence.n_tokens == 16
    assert all(one.n_logits == 0 for one in backend.passes)


def test_a_cancelled_prefill_keeps_what_was_run() -> None:
    backend = FakeBackend()
    sequence = CachedSequence(backend)
    done = prefill(
        sequence, range(20), is_cancelled=lambda: len(backend.passes) == 2, chunk_tokens=4
    )
    assert not done
    assert sequence.n_tokens == 8
    assert prefill(sequence, range(20), is_cancelled=never, chunk_tokens=4)
    assert backend.n_prefilled == 20


def test_a_right_draft_is_verified_in_one_pass() -> None:
    backend = FakeBackend(SCRIPT)
    progress = run(backend, SCRIPT[:3], propose=lambda generated: SCRIPT[3 + len(generated) :])
    assert progress.generated == SCRIPT[3:]
    assert (progress.n_drafted, progress.n_accepted) == (7, 7)
    assert len(backend.passes) == 1


def test_a_wrong_draft_costs_nothing_but_its_place_in_the_pass() -> None:
    backend = FakeBackend(SCRIPT)
    progress = run(backend, SCRIPT[:3], propose=lambda generated: [13, 99][len(generated) :])
    assert progress.generated == SCRIPT[3:]
    assert progress.n_accepted == 1
    assert backend.caches[0].token_ids == SCRIPT


def test_nothing_is_accepted_after_the_end() -> None:
    backend = FakeBackend(SCRIPT)
    progress = run(backend, SCRIPT, propose=lambda generated: [END, END])
    assert (progress.generated, progress.n_accepted) == ([], 0)
    assert progress.finish_reason == "stop"


def test_a_draft_never_leaves_the_context_nor_the_limit() -> None:
    backend = FakeBackend(lambda tokens: 5)
    progress = run(backend, [1] * (FAKE_SPEC.n_ctx - 3), propose=lambda generated: [5] * 99)
    assert progress.generated == [5] * 4
    limited = run(FakeBackend(lambda tokens: 5), [1], max_new_tokens=3, propose=lambda _: [5] * 99)
    assert limited.generated == [5] * 3
    assert (limited.n_drafted, limited.finish_reason) == (2, "length")


@given(
    st.lists(st.lists(st.integers(0, 259), max_size=6), max_size=12),
    st.floats(0.0, 1.0),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_drafts_never_change_what_is_generated(
    wrong: list[list[int]], share_right: float, temperature: float, seed: int
) -> None:
    """Greedy and sampled, with drafts of any length, right for a while or not at all."""

    def choose() -> Choose:
        options = SamplingOptions(temperature=temperature, top_p=0.9)
        return make_choose(options, np.random.default_rng(seed))

    prompt = [seed, 2, 3]
    plain = run(FakeBackend(noisy), prompt, choose=choose(), max_new_tokens=30)

    def propose(generated: Sequence[int]) -> Sequence[int]:
        n_right = round(share_right * 8)
        right = plain.generated[len(generated) : len(generated) + n_right]
        return [*right, *(wrong[len(generated) % len(wrong)] if wrong else [])]

    backend = FakeBackend(noisy)
    drafted = run(backend, prompt, choose=choose(), max_new_tokens=30, propose=propose)
    assert drafted.generated == plain.generated
    assert drafted.finish_reason == plain.finish_reason
    seen = [*prompt, *plain.generated]
    assert backend.caches[0].token_ids == seen[: backend.caches[0].n_tokens]
