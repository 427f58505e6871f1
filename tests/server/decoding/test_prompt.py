"""The order of a prompt's tokens."""

from __future__ import annotations

import pytest

from server.decoding.prompt import build_prompt
from server.manifest import FimOrder, FimTokens, SpecialTokens

END, PRE, SUF, MID = 90, 91, 92, 93


def special(order: FimOrder = "psm") -> SpecialTokens:
    return SpecialTokens(end=END, fim=FimTokens(prefix=PRE, suffix=SUF, middle=MID, order=order))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("psm", (PRE, 1, 2, SUF, 7, 8, MID)),
        ("spm", (PRE, SUF, 7, 8, MID, 1, 2)),
    ],
)
def test_parts_stand_in_the_order_that_was_trained(order: FimOrder, expected) -> None:
    prompt = build_prompt(
        special(order), order, prefix_ids=[1, 2, 3], suffix_ids=[7, 8], n_healed=1
    )
    assert prompt.token_ids == expected
    assert prompt.healed_ids == (3,)


@pytest.mark.parametrize("special_tokens", [SpecialTokens(end=END), special("spm")])
def test_left_to_right_a_prompt_is_the_prefix(special_tokens: SpecialTokens) -> None:
    prompt = build_prompt(special_tokens, None, prefix_ids=[1, 2, 3], suffix_ids=[], n_healed=1)
    assert prompt.token_ids == (1, 2)


def test_with_and_without_a_suffix_the_front_is_the_same_where_the_prefix_comes_first() -> None:
    plain, middle = (
        build_prompt(special("psm"), order, prefix_ids=[1, 2, 3], suffix_ids=[7], n_healed=0)
        for order in (None, "psm")
    )
    assert plain.token_ids == (PRE, 1, 2, 3)
    assert middle.token_ids[: len(plain.token_ids)] == plain.token_ids


@pytest.mark.parametrize("prefix_ids", [[], [1]])
def test_a_prompt_without_text_starts_from_the_end_of_another(prefix_ids) -> None:
    n_healed = len(prefix_ids)
    prompt = build_prompt(
        SpecialTokens(end=END), None, prefix_ids=prefix_ids, suffix_ids=[], n_healed=n_healed
    )
    assert prompt.token_ids == (END,)


def test_typing_only_appends_where_the_suffix_comes_first() -> None:
    def prompt(*prefix_ids: int) -> tuple[int, ...]:
        return build_prompt(
            special("spm"), "spm", prefix_ids=prefix_ids, suffix_ids=[7, 8], n_healed=0
        ).token_ids

    assert prompt(1, 2, 3)[: len(prompt(1, 2))] == prompt(1, 2)
