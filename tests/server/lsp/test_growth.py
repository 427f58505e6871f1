"""What is sent before the answer, and what is left for it."""

from __future__ import annotations

from typing import Any

from server.lsp.growth import EMPTY, Growth, Items


def items(*texts: str) -> Items:
    return [{"insertText": text} for text in texts]


def test_a_client_that_opted_in_gets_each_state_once_and_an_empty_end() -> None:
    sent: list[Items] = []
    growth = Growth(sent.append, is_growing=True)
    for text in ("a", "a", "ab"):
        growth.grow(items(text))
    assert growth.finish(items("abc")) == EMPTY
    assert sent == [items("a"), items("ab"), items("abc")]


def test_an_answer_that_did_not_grow_is_whole() -> None:
    sent: list[Items] = []
    growth = Growth(sent.append, is_growing=True)
    assert growth.finish(items("abc")) == {"items": items("abc")}
    assert sent == []


def test_what_was_shown_is_taken_back_if_nothing_is_left() -> None:
    sent: list[Items] = []
    growth = Growth(sent.append, is_growing=True)
    growth.grow(items("a"))
    assert growth.finish([]) == EMPTY
    assert sent == [items("a"), []]


def test_without_opting_in_only_complete_items_are_sent() -> None:
    sent: list[Items] = []
    growth = Growth(sent.append, is_growing=False)
    growth.grow(items("a"))
    assert growth.finish(items("ab", "c")) == EMPTY
    assert sent == [items("ab", "c")]


def test_states_are_left_out_while_the_client_does_not_read() -> None:
    sent: list[Items] = []
    congested: list[Any] = [True]
    growth = Growth(sent.append, is_growing=True, is_congested=lambda: bool(congested))
    growth.grow(items("a"))
    congested.clear()
    growth.grow(items("ab"))
    assert growth.finish(items("ab")) == EMPTY
    assert sent == [items("ab")]


def test_nothing_is_sent_after_the_end() -> None:
    sent: list[Items] = []
    growth = Growth(sent.append, is_growing=True)
    growth.close()
    growth.grow(items("a"))
    assert sent == []
