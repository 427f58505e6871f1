"""The suffix array, against a scan of every place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.memory.stream import (
    MAX_MATCH_TOKENS,
    Key,
    Stream,
    Surroundings,
    TokenWidth,
)
from server.decoding.memory.suffix_array import SuffixArray

WIDTHS = (TokenWidth(4), TokenWidth(70_000))
N_MOST = 6

tokens = st.lists(st.integers(0, 3), max_size=60)
texts = st.lists(tokens, min_size=1, max_size=5)


def packed(lists: list[list[int]], width: TokenWidth) -> list[np.ndarray]:
    """The ids 0 to 3 as those of the vocabulary, the last of which needs every byte."""
    return [width.pack([spread(i, width) for i in ids]) for ids in lists]


def spread(token: int, width: TokenWidth) -> int:
    return token * (width.n_vocab - 1) // 3


def agreement(one: list[int], other: list[int]) -> int:
    n = 0
    while n < min(len(one), len(other), MAX_MATCH_TOKENS) and one[-1 - n] == other[-1 - n]:
        n += 1
    return n


def scan(lists: list[list[int]], context: list[int]) -> list[tuple[int, int | None, int, int]]:
    """Length of the match, token that follows (None at a text's end), text and offset: of every
    place that a token leads to.
    """
    return [
        (agreement(ids[:end], context), ids[end] if end < len(ids) else None, number, end)
        for number, ids in enumerate(lists)
        for end in range(1, len(ids) + 1)
    ]


def looked_at(array: SuffixArray, places: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens agree at each place, and which token stands there."""
    around = Surroundings([array.stream.around(places)], array.stream.width)
    return around.lengths(key), around.next_ids()


@pytest.mark.parametrize("width", WIDTHS)
@given(lists=texts, context=tokens)
@settings(max_examples=150)
def test_answers_equal_a_scan(width: TokenWidth, lists: list[list[int]], context: list[int]):
    array = SuffixArray(packed(lists, width), width)
    key = Key.of([spread(i, width) for i in context], width)
    places = array.nearest(key, 2 * N_MOST)
    lengths, next_ids = looked_at(array, places, key)
    numbers = array.stream.text_indices(places)
    everything = scan(lists, context)
    found = []
    for place, length, token, number in zip(places, lengths, next_ids, numbers, strict=True):
        if length:
            offset = array.stream.offset(int(place), int(number))
            following = None if token == width.separator else lists[number][offset]
            assert following is None or spread(following, width) == token
            found.append((int(length), following, int(number), offset))
    assert set(found) <= set(everything)
    assert len(set(found)) == len(found)
    longest = sorted((match[0] for match in everything if match[0]), reverse=True)
    assert sorted((match[0] for match in found), reverse=True)[:N_MOST] == longest[:N_MOST]


@given(lists=texts)
@settings(max_examples=50)
def test_texts_come_back_as_they_were(lists: list[list[int]]):
    width = WIDTHS[0]
    stream = Stream(packed(lists, width), width)
    assert stream.n_texts == len(lists)
    assert [stream.text(i).tolist() for i in range(len(lists))] == [
        [spread(t, width) for t in ids] for ids in lists
    ]


def test_what_follows_a_place_ends_with_its_text():
    width = TokenWidth(100)
    array = SuffixArray([width.pack([1, 2, 3, 4]), width.pack([1, 2, 5])], width)
    key = Key.of([1, 2], width)
    places = array.nearest(key, 2 * 8)
    matching = places[looked_at(array, places, key)[0] == 2]
    follow = sorted(array.stream.follow(int(place), 8) for place in matching)
    assert follow == [[3, 4], [5]]
    assert sorted(array.stream.follow(int(place), 1) for place in matching) == [[3], [5]]


def test_no_match_crosses_from_text_to_text():
    width = TokenWidth(100)
    array = SuffixArray([width.pack([1, 2]), width.pack([3, 4])], width)
    key = Key.of([2, 3], width)
    assert looked_at(array, array.nearest(key, 10), key)[0].max() == 1


def test_nothing_is_found_where_nothing_was_learned():
    width = TokenWidth(100)
    assert len(SuffixArray([], width).nearest(Key.of([1, 2], width), 8)) == 0


def test_a_token_takes_six_bytes_and_of_a_large_vocabulary_eight():
    small, large = TokenWidth(8192), TokenWidth(100_000)
    n_filled = MAX_MATCH_TOKENS + 1
    text = list(range(1000))
    assert SuffixArray([small.pack(text)], small).n_bytes == 6 * 1001 + 2 * n_filled
    assert SuffixArray([large.pack(text)], large).n_bytes == 8 * 1001 + 4 * n_filled
