"""KV caches: most in common wins, bounds hold, caches of different texts never mix."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.kv_caches import CachedSequence, KVCaches
from server.errors import BackendFailedError
from tests.fakes import FakeBackend


def fill(caches: KVCaches, token_ids: list[int], owner: str = "") -> int:
    """Run what a sequence lacks of the tokens; return how many it had."""
    with caches.lease(token_ids, owner) as sequence:
        n_reused = sequence.n_tokens
        if n_reused < len(token_ids):
            sequence.forward(token_ids[n_reused:], n_rows=1)
    return n_reused


def test_a_sequence_stays_in_step_with_its_cache() -> None:
    backend = FakeBackend()
    sequence = CachedSequence(backend)
    sequence.forward([1, 2, 3, 4], n_rows=0)
    sequence.truncate(2)
    sequence.forward([5], n_rows=1)
    assert sequence.n_tokens == 3
    assert backend.caches[0].token_ids == [1, 2, 5]
    assert sequence.count_common([1, 2, 5, 9]) == 3
    assert sequence.count_common([1, 7]) == 1
    assert sequence.n_bytes == backend.caches[0].n_bytes


def test_truncating_to_more_than_there_is_changes_nothing() -> None:
    sequence = CachedSequence(FakeBackend())
    sequence.forward([1, 2], n_rows=0)
    sequence.truncate(5)
    assert sequence.n_tokens == 2


def test_the_longest_common_front_wins_and_the_rest_is_cut() -> None:
    caches = KVCaches(FakeBackend())
    fill(caches, [1, 2, 3, 4])
    fill(caches, [9, 8, 7, 6])
    assert fill(caches, [9, 8, 7, 5]) == 3
    assert fill(caches, [1, 2, 3, 4, 5]) == 4
    assert caches.n_caches == 2


def test_a_cache_is_spared_where_little_would_be_won() -> None:
    caches = KVCaches(FakeBackend())
    fill(caches, [1, 2, 3, 4, 5, 6])
    assert fill(caches, [1, 9, 9, 9, 9, 9]) == 0
    assert fill(caches, [1, 2, 3, 4, 5, 6]) == 6


def test_the_least_recently_used_goes_when_there_are_too_many() -> None:
    caches = KVCaches(FakeBackend(), max_caches=2)
    fill(caches, [1, 1, 1])
    fill(caches, [2, 2, 2])
    fill(caches, [1, 1, 1])
    assert fill(caches, [3, 3, 3]) == 0
    assert caches.n_caches == 2
    assert fill(caches, [1, 1, 1]) == 3
    assert fill(caches, [2, 2, 2]) == 0


def test_the_least_recently_used_goes_when_they_are_too_large() -> None:
    """The fake's caches take 8 bytes a token."""
    caches = KVCaches(FakeBackend(), max_caches=10, max_bytes=8 * 10)
    fill(caches, [1] * 4)
    fill(caches, [2] * 4)
    fill(caches, [3] * 4)
    assert caches.n_bytes <= 80
    assert fill(caches, [2] * 4) == 4
    assert fill(caches, [3] * 4) == 4


def test_one_cache_is_kept_however_large() -> None:
    caches = KVCaches(FakeBackend(), max_bytes=1)
    fill(caches, [1, 2, 3])
    assert fill(caches, [1, 2, 3]) == 3


def test_a_cache_in_use_is_lent_to_nobody_else() -> None:
    caches = KVCaches(FakeBackend(), max_caches=1)
    fill(caches, [1, 2, 3])
    with caches.lease([1, 2, 3]) as first, caches.lease([1, 2, 3]) as second:
        assert first is not second
        assert (first.n_tokens, second.n_tokens) == (3, 0)
    assert caches.n_caches == 1


def fill_beside(caches: KVCaches, token_ids: list[int], present_ids: list[int]) -> int | None:
    """As `fill`, ahead; None: there was no room."""
    with caches.lease_beside(token_ids, present_ids) as sequence:
        if sequence is None:
            return None
        n_reused = sequence.n_tokens
        sequence.forward(token_ids[n_reused:], n_rows=0)
    return n_reused


def test_what_is_run_ahead_never_takes_the_present_cache() -> None:
    """However much both have in common: a suffix that comes first."""
    caches = KVCaches(FakeBackend())
    fill(caches, [1, 2, 3, 4, 5])
    assert fill_beside(caches, [1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 6]) == 0
    assert fill(caches, [1, 2, 3, 4, 5]) == 5
    assert fill(caches, [1, 2, 3, 4, 9]) == 5


def test_what_was_run_ahead_in_part_is_gone_on_with() -> None:
    caches = KVCaches(FakeBackend())
    fill(caches, [1, 2, 3, 4, 5, 6])
    fill_beside(caches, [1, 2, 9], [1, 2, 3, 4, 5, 6])
    assert fill_beside(caches, [1, 2, 9, 8, 7, 6, 5, 4, 3, 2], [1, 2, 3, 4, 5, 6]) == 3
    assert caches.n_caches == 2


@pytest.mark.parametrize("bounds", [{"max_caches": 1}, {"max_bytes": 8 * 7}])
def test_nothing_is_run_ahead_where_the_bounds_leave_no_room(bounds: dict[str, int]) -> None:
    caches = KVCaches(FakeBackend(), **bounds)
    fill(caches, [1, 2, 3, 4])
    assert fill_beside(caches, [9, 8, 7], [1, 2, 3, 4]) is None
    assert fill(caches, [1, 2, 3, 4]) == 4


def test_what_is_run_ahead_goes_before_the_present_cache() -> None:
    caches = KVCaches(FakeBackend(), max_caches=2)
    fill(caches, [5, 5, 5])
    fill(caches, [1, 2, 3])
    assert fill_beside(caches, [9, 8, 7], [1, 2, 3]) == 0
    assert fill(caches, [4, 4, 4]) == 0
    assert fill(caches, [1, 2, 3]) == 3
    assert fill(caches, [9, 8, 7]) == 0


def test_a_cache_that_the_network_failed_on_is_dropped() -> None:
    caches = KVCaches(FakeBackend(fail_at=1))
    fill(caches, [1, 2, 3])
    with pytest.raises(BackendFailedError):
        fill(caches, [1, 2, 3, 4])
    assert caches.n_caches == 0
    assert fill(caches, [1, 2, 3]) == 0


def test_a_consumer_that_raises_leaves_what_was_run() -> None:
    caches = KVCaches(FakeBackend())

    def raise_after_a_pass() -> None:
        with caches.lease([1, 2]) as sequence:
            sequence.forward([1, 2], n_rows=0)
            raise KeyError

    with pytest.raises(KeyError):
        raise_after_a_pass()
    assert fill(caches, [1, 2]) == 2


def test_what_an_owner_used_last_is_forgotten() -> None:
    caches = KVCaches(FakeBackend())
    fill(caches, [1, 2, 3], "a")
    fill(caches, [4, 5, 6], "b")
    caches.forget("a")
    assert fill(caches, [1, 2, 3], "c") == 0
    assert fill(caches, [4, 5, 6], "b") == 3


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=20)


@given(PROMPTS, st.integers(1, 4), st.integers(1, 300))
@settings(max_examples=150)
def test_caches_never_mix_and_bounds_hold(
    prompts: list[list[int]], max_caches: int, max_bytes: int
) -> None:
    backend = FakeBackend()
    caches = KVCaches(backend, max_caches=max_caches, max_bytes=max_bytes)
    for prompt in prompts:
        fill(caches, prompt)
        assert any(cache.token_ids == prompt for cache in backend.caches)
        assert 1 <= caches.n_caches <= max_caches
        assert caches.n_caches == 1 or caches.n_bytes <= max_bytes
