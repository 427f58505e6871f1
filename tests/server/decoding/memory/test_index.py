"""What is known of the workspace: learned bit by bit, silenced at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.memory import index as index_module
from server.decoding.memory.index import LearnedText, WorkspaceIndex
from server.decoding.memory.recall import Recall
from server.decoding.memory.search import MAX_PLACES, Nearness
from server.decoding.memory.stream import TokenWidth

pytestmark = pytest.mark.usefixtures("each_way")

WIDTH = TokenWidth(100)
ROOM = 1_000_000


def text(path: str, ids: Sequence[int], *, is_near: bool = False) -> LearnedText:
    return LearnedText(path, WIDTH.pack(list(ids)), is_near)


def make_index(max_bytes: int = ROOM) -> WorkspaceIndex:
    return WorkspaceIndex(WIDTH, max_bytes)


def recalled(index: WorkspaceIndex, context: Sequence[int]) -> list[tuple[int, int, int]]:
    """Length, next token and nearness of every match."""
    found = Recall(lambda: index.snapshot, None, "", WIDTH).matches(context).found
    return sorted(
        zip(found.lengths.tolist(), found.next_ids.tolist(), found.nearness.tolist(), strict=True)
    )


def next_ids(index: WorkspaceIndex, context: Sequence[int]) -> list[int]:
    return [token for _, token, _ in recalled(index, context)]


paths = st.sampled_from(["a/x.py", "a/y.py", "b/z.py", "b/w.py"])
# So short that all places of a segment, silenced ones included, are among those looked at.
ids = st.lists(st.integers(0, 4), max_size=MAX_PLACES // 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.dictionaries(paths, ids, max_size=3)),
        st.tuples(st.just("unlearn"), st.lists(paths, max_size=2)),
    ),
    max_size=8,
)


@given(steps=steps, context=st.lists(st.integers(0, 4), min_size=2, max_size=4))
@settings(max_examples=150)
@pytest.mark.parametrize("young", [3, 10_000])
def test_changes_one_by_one_equal_a_fresh_start(young: int, steps, context):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "LEAST_TOKENS", young)
        grown, known = make_index(), {}
        for kind, what in steps:
            if kind == "learn":
                grown.learn(lambda what=what: [text(p, ids) for p, ids in what.items()])
                known.update(what)
            else:
                grown.unlearn(what)
                known = {path: ids for path, ids in known.items() if path not in what}
        fresh = make_index()
        fresh.learn(lambda: [text(path, ids) for path, ids in known.items()])
        assert grown.snapshot.n_texts == fresh.snapshot.n_texts == len(known)
        assert recalled(grown, context) == recalled(fresh, context)


def test_a_text_is_sorted_a_few_times_however_many_are_learned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "LEAST_TOKENS", 10)
    index = make_index()
    n_sorted = 0
    for i in range(32):
        before = index.snapshot.segments
        index.learn(lambda i=i: [text(f"{i}.py", [i % 50] * 19)])
        segments = index.snapshot.segments
        assert len(segments) <= index_module.MAX_SEGMENTS
        n_sorted += sum(
            s.array.stream.n_tokens for s in segments if all(s is not b for b in before)
        )
    assert n_sorted < 5 * index.snapshot.n_tokens  # If all were sorted each time, 16 times.


def test_a_text_is_replaced_by_what_is_learned_under_its_path():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3])])
    index.learn(lambda: [text("a.py", [1, 2, 4])])
    assert next_ids(index, [1, 2]) == [4]


def test_of_two_texts_with_one_path_the_last_counts():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3]), text("a.py", [1, 2, 4])])
    assert next_ids(index, [1, 2]) == [4]


def test_an_unlearned_text_is_silent_at_once():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3]), text("b.py", [1, 2, 4])])
    index.unlearn(["a.py", "unknown.py"])
    assert next_ids(index, [1, 2]) == [4]


def test_a_text_that_is_unlearned_while_it_is_learned_stays_silent():
    index = make_index()

    def read() -> list[LearnedText]:
        index.unlearn(["a.py"])
        return [text("a.py", [1, 2, 3]), text("b.py", [1, 2, 4])]

    index.learn(read)
    assert next_ids(index, [1, 2]) == [4]


def test_many_silenced_texts_do_not_crowd_out_what_speaks():
    """All their places agree better than the living one's, and only so many are looked at."""
    crowd = [text(f"{i}.py", [9, 1, 2, 3, 4]) for i in range(4 * MAX_PLACES)]
    index = make_index()
    index.learn(lambda: [text("living.py", [2, 3, 8]), *crowd])
    index.unlearn([one.path for one in crowd])
    index.learn(lambda: [text("new.py", [6])])
    assert next_ids(index, [9, 1, 2, 3]) == [8]


def test_a_snapshot_never_changes():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3])])
    before = index.snapshot
    index.unlearn(["a.py"])
    index.learn(lambda: [text("b.py", [1, 2, 4])])
    recall = Recall(lambda: before, None, "", WIDTH)
    assert recall.matches([1, 2]).found.next_ids.tolist() == [3]


def test_what_is_known_already_is_not_built_again():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3])])
    before = index.snapshot
    index.learn(lambda: [text("a.py", [1, 2, 3])])
    assert index.snapshot is before


def test_memory_stays_within_its_bound_and_tells_what_it_left_out():
    index = make_index(max_bytes=6 * 110 + 200)
    for i in range(20):
        index.learn(lambda i=i: [text(f"{i}.py", np.arange(20) + i)])
        assert index.snapshot.n_bytes <= 6 * 110 + 200
    n_kept = index.snapshot.n_texts
    assert n_kept == 5
    assert len(index.snapshot.left_out) == 20 - n_kept
    assert next_ids(index, [1, 2])


def test_an_open_text_finds_room_in_a_full_memory():
    index = make_index(max_bytes=6 * 110 + 200)
    index.learn(lambda: [text(f"{i}.py", [50] * 20) for i in range(6)])
    index.learn(lambda: [text("open.py", [1, 2, *[3] * 18], is_near=True)])
    assert next_ids(index, [1, 2]) == [3]


def test_nearness_is_told_and_the_document_itself_left_out():
    index = make_index()
    index.learn(
        lambda: [
            text("a/self.py", [1, 2, 9]),
            text("a/sister.py", [1, 2, 3]),
            text("b/far.py", [1, 2, 4]),
            text("b/open.py", [1, 2, 5], is_near=True),
        ]
    )
    found = Recall(lambda: index.snapshot, None, "a/self.py", WIDTH).matches([1, 2]).found
    assert dict(zip(found.next_ids.tolist(), found.nearness.tolist(), strict=True)) == {
        3: Nearness.FOLDER,
        4: Nearness.REST,
        5: Nearness.OPEN,
    }


def test_what_the_document_imports_is_nearer_than_the_rest():
    index = make_index()
    texts = [text("b/far.py", [1, 2, 3]), text("b/used.py", [1, 2, 4]), text("a/by.py", [1, 2, 5])]
    index.learn(lambda: texts)
    imported = ("b/used", "a/by")
    found = Recall(lambda: index.snapshot, None, "a/self.py", WIDTH, imported=imported)
    matches = found.matches([1, 2]).found
    assert dict(zip(matches.next_ids.tolist(), matches.nearness.tolist(), strict=True)) == {
        3: Nearness.REST,
        4: Nearness.IMPORTED,
        5: Nearness.FOLDER,
    }


def test_a_folder_that_nothing_lies_in_brings_nothing_nearer():
    index = make_index()
    index.learn(lambda: [text("b/far.py", [1, 2, 4])])
    found = Recall(lambda: index.snapshot, None, "a/self.py", WIDTH).matches([1, 2]).found
    assert found.nearness.tolist() == [Nearness.REST]


def test_what_must_not_be_drawn_on_says_nothing():
    index = make_index()
    index.learn(lambda: [text("a.py", [1, 2, 3]), text("b.py", [1, 2, 4])])
    recall = Recall(lambda: index.snapshot, None, "", WIDTH, lambda path: path == "a.py")
    assert recall.matches([1, 2]).found.next_ids.tolist() == [4]


def test_a_full_memory_is_not_turned_over_by_each_file_that_is_read():
    index = make_index(max_bytes=6 * 110 + 200)
    index.learn(lambda: [text(f"{i}.py", [i] * 20) for i in range(5)])
    before = index.snapshot.segments
    index.learn(lambda: [text("late.py", [9] * 20)])
    assert index.snapshot.segments == before
    assert index.snapshot.left_out == {"late.py"}
    index.unlearn(["0.py"])
    index.learn(lambda: [text("late.py", [1, 2, *[3] * 18])])
    assert next_ids(index, [1, 2]) == [3]
    assert not index.snapshot.left_out
