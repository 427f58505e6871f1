"""What may not be said is masked where the rule applies, and nothing else changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.decoding.healing import Vocabulary, make_healing
from server.decoding.prevention import forbid_start

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


@given(generated=IDS, healed=st.sampled_from([b"", b"(", b"ab"]))
def test_the_rule_only_ever_masks(generated: list[int], healed: bytes) -> None:
    """The choice is narrowed, never changed: what is left keeps its probability."""
    before = EVEN.copy()
    after = forbid_start(VOCABULARY, healed, b")")(generated, EVEN)
    assert np.array_equal(EVEN, before)
    kept = np.isfinite(after)
    assert kept.any()
    assert np.array_equal(after[kept], EVEN[kept])
    said = b"".join(TOKENS[i] for i in generated)
    assert after is EVEN or len(said) <= len(healed)
