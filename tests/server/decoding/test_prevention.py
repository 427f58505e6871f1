"""Rules that mask tokens before one is chosen: where they apply, and that nothing else changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.decoding.healing import Vocabulary, make_healing
from server.decoding.prevention import forbid_loops, forbid_start, loop_continuations

TOKENS = (b"a", b"b", b")", b"))", b"(", b"()", b"(a", b"", b"x)")
VOCABULARY = Vocabulary(TOKENS)
EVEN = np.full(len(TOKENS), -np.log(len(TOKENS)), np.float32)
IDS = st.lists(st.integers(0, len(TOKENS) - 1), max_size=40)


def left(log_probs: np.ndarray) -> set[bytes]:
    return {TOKENS[i] for i in np.flatnonzero(np.isfinite(log_probs))}


def ids(*texts: bytes) -> list[int]:
    return [TOKENS.index(text) for text in texts]


def test_a_text_does_not_begin_with_what_stands_there() -> None:
    process = forbid_start(VOCABULARY, b"", b")")
    assert left(process([], EVEN)) == set(TOKENS) - {b")", b"))"}


def test_only_the_beginning_is_kept_free_of_it() -> None:
    process = forbid_start(VOCABULARY, b"", b")")
    assert process(ids(b"a"), EVEN) is EVEN


def test_a_token_that_ends_the_healed_bytes_and_goes_on_is_masked() -> None:
    process = forbid_start(VOCABULARY, b"(", b")")
    assert left(process([], EVEN)) == set(TOKENS) - {b"()"}
    assert left(process(ids(b"("), EVEN)) == set(TOKENS) - {b")", b"))"}
    assert process(ids(b"(a"), EVEN) is EVEN


def test_after_healing_the_new_text_is_still_free() -> None:
    healed = make_healing(VOCABULARY, b"(")([], EVEN)
    assert left(forbid_start(VOCABULARY, b"(", b")")([], healed)) == {b"(", b"(a"}


def test_where_nothing_else_is_left_nothing_is_masked() -> None:
    only = np.full(len(TOKENS), -np.inf, np.float32)
    only[ids(b")")] = 0
    assert forbid_start(VOCABULARY, b"", b")")([], only) is only


def test_a_token_is_not_said_more_than_five_times_over_and_over() -> None:
    assert loop_continuations([7] * 3) == []
    assert 7 in loop_continuations([7] * 4)


def test_a_long_group_is_said_no_third_time() -> None:
    group = [1, 2, 3, 4, 5]
    assert loop_continuations([*group, *group, *group[:3]]) == []
    assert loop_continuations([*group, *group, *group[:4]]) == [5]


def test_a_loop_that_was_left_forbids_nothing() -> None:
    assert loop_continuations([7, 7, 7, 7, 7, 7, 8]) == []


def test_a_loop_is_broken() -> None:
    """A network that says one thing for ever says another in the end."""
    stuck = EVEN.copy()
    stuck[0] += 9
    generated: list[int] = []
    for _ in range(12):
        generated.append(int(forbid_loops(generated, stuck).argmax()))
    assert set(generated) != {0}


@given(generated=IDS, healed=st.sampled_from([b"", b"(", b"ab"]))
def test_rules_only_ever_mask(generated: list[int], healed: bytes) -> None:
    """The choice is narrowed, never changed: what is left keeps its probability."""
    for rule in (forbid_loops, forbid_start(VOCABULARY, healed, b")")):
        before = EVEN.copy()
        after = rule(generated, EVEN)
        assert np.array_equal(EVEN, before)
        kept = np.isfinite(after)
        assert kept.any()
        assert np.array_equal(after[kept], EVEN[kept])


@given(st.permutations(range(40)))
def test_a_text_without_repetition_is_left_alone(generated: list[int]) -> None:
    assert forbid_loops(generated, EVEN) is EVEN
