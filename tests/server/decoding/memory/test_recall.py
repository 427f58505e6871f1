"""The document as its own memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.memory.index import LearnedText, Segment, Snapshot, WorkspaceIndex
from server.decoding.memory.recall import PASSED_OVER_TOKENS, DocumentText, Recall
from server.decoding.memory.search import MAX_PLACES
from server.decoding.memory.stream import MAX_MATCH_TOKENS, TokenWidth

pytestmark = pytest.mark.usefixtures("each_way")

WIDTH = TokenWidth(100)


def recall_of(before: Sequence[int], after: Sequence[int] = ()) -> Recall:
    return Recall(Snapshot, DocumentText(before, after, WIDTH), "a.py", WIDTH)


@given(
    before=st.lists(st.integers(0, 3), max_size=40),
    after=st.lists(st.integers(0, 3), max_size=20),
    context=st.lists(st.integers(0, 3), min_size=2, max_size=6),
)
@settings(max_examples=200)
def test_matches_equal_a_scan(before: list[int], after: list[int], context: list[int]):
    expected = []
    for ids in (before, after):
        for end in range(2, len(ids)):
            length = 0
            while length < min(end, len(context)) and ids[end - 1 - length] == context[-1 - length]:
                length += 1
            if length >= 2:
                expected.append((length, ids[end]))
    found = recall_of(before, [9] * PASSED_OVER_TOKENS + after).matches(context).found
    pairs = zip(found.lengths.tolist(), found.next_ids.tolist(), strict=True)
    if len(expected) <= MAX_PLACES:
        assert sorted(pairs) == sorted(expected)
    assert found.n_matches == min(len(expected), MAX_PLACES)


@given(
    before=st.lists(st.integers(0, 3), max_size=60),
    old=st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=4),
    young=st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=4),
    context=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    silenced=st.sets(st.integers(0, 3)),
)
@settings(max_examples=150)
def test_all_sources_at_once_say_what_each_says_alone(
    before: list[int],
    old: list[list[int]],
    young: list[list[int]],
    context: list[int],
    silenced: set[int],
):
    segments: list[Segment] = []
    for name, texts in (("old", old), ("young", young)):
        index = WorkspaceIndex(WIDTH, 1_000_000)
        index.learn(
            lambda name=name, texts=texts: [
                LearnedText(f"{name}/{i}", WIDTH.pack(ids), is_near=i == 2)
                for i, ids in enumerate(texts)
            ]
        )
        index.unlearn([f"{name}/{i}" for i in silenced])
        segments += index.snapshot.segments

    def told(document: DocumentText | None, *asked: Segment) -> list[tuple]:
        known = Snapshot(asked)
        found = Recall(lambda: known, document, "old/1", WIDTH).matches(context)
        return [
            (
                int(found.found.lengths[i]),
                int(found.found.next_ids[i]),
                int(found.found.nearness[i]),
                found.origin(i)[1],
                found.follow(i, 3),
            )
            for i in range(found.found.n_matches)
        ]

    document = DocumentText(before, (), WIDTH)
    alone = [told(document), *(told(None, segment) for segment in segments)]
    assert told(document, *segments) == [match for part in alone for match in part]


def test_no_match_crosses_the_cursor():
    assert recall_of([1, 2], [9] * PASSED_OVER_TOKENS + [3, 4]).matches([1, 2]).found.n_matches == 0


def test_the_lines_just_below_the_cursor_say_nothing():
    below = [1, 2, 3]
    assert recall_of([], below).matches([1, 2]).found.n_matches == 0
    assert recall_of([], [9] * PASSED_OVER_TOKENS + below).matches([1, 2]).found.n_matches == 1


def test_the_nearest_of_equal_matches_comes_first():
    found = recall_of([1, 2, 3, 1, 2, 4, 1, 2]).matches([1, 2]).found
    assert found.next_ids.tolist() == [4, 3]


def test_what_follows_is_read_from_the_matchs_place():
    found = recall_of([1, 2, 3, 4, 5, 1, 2]).matches([1, 2])
    assert found.follow(0, 3) == [3, 4, 5]


def test_agreement_is_counted_up_to_a_limit():
    long = list(range(1, 60))
    found = recall_of([*long, 77, *long]).matches(long).found
    assert found.lengths.tolist() == [MAX_MATCH_TOKENS]


@pytest.mark.parametrize("context", [[], [1]])
def test_a_single_token_recalls_nothing(context: list[int]):
    assert recall_of([1, 2, 1, 2]).matches(context).found.n_matches == 0
