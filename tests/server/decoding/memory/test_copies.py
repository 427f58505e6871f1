"""Runs of tokens that stand word for word in the workspace: found, followed and placed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.decoding.memory.copies import LONG_COPY_TOKENS, Copy, CopyTrace
from server.decoding.memory.index import LearnedText, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.stream import TokenWidth

pytestmark = pytest.mark.usefixtures("each_way")

WIDTH = TokenWidth(200)


def traced(
    texts: dict[str, list[int]], prompt: list[int], generated: list[int]
) -> list[Copy | None]:
    """Return what is told after each generated token."""
    index = WorkspaceIndex(WIDTH, 1_000_000)
    index.learn(lambda: [LearnedText(path, WIDTH.pack(ids)) for path, ids in texts.items()])
    recall = Recall(lambda: index.snapshot, DocumentText(prompt, [], WIDTH), "own", WIDTH)
    trace = CopyTrace()
    return [
        trace.add(token_id, i, recall.matches([*prompt, *generated[:i]]))
        for i, token_id in enumerate(generated)
    ]


def test_a_long_copy_tells_where_it_began() -> None:
    text = list(range(100, 180))
    copies = traced({"a": [1, 2, 3, *text], "b": [9, 8, 7]}, [5, 100, 101], text[2:32])
    assert copies[: LONG_COPY_TOKENS - 1] == [None] * (LONG_COPY_TOKENS - 1)
    last = copies[-1]
    assert last is not None
    # The prompt's own tokens were not copied.
    assert (last.path, last.offset, last.n_tokens) == ("a", 5, 30)
    assert last.tokens_before.tolist() == [1, 2, 3, 100, 101]


def test_a_copy_ends_where_the_text_goes_on_otherwise() -> None:
    text = list(range(100, 140))
    copies = traced({"a": text}, [100, 101], [*text[2:22], 7, 8, 9])
    assert copies[19] is not None
    assert copies[20:] == [None, None, None]


def test_a_text_that_is_written_anew_is_no_copy() -> None:
    assert traced({"a": [1, 2, 3]}, [4, 5], list(range(10, 50))) == [None] * 40


@given(st.integers(0, 10_000))
def test_what_is_told_stands_there(seed: int) -> None:
    rng = random.Random(seed)
    texts = {name: [rng.randrange(4) for _ in range(200)] for name in "abc"}
    source = rng.choice("abc")
    start = rng.randrange(100)
    copied = texts[source][start : start + 40]
    prompt, generated = copied[:2], copied[2:]
    for n, copy in enumerate(traced(texts, prompt, generated), 1):
        if copy is not None:
            there = texts[copy.path][copy.offset : copy.offset + copy.n_tokens]
            assert there == generated[n - copy.n_tokens : n]
            assert np.array_equal(copy.tokens_before, texts[copy.path][: copy.offset])
    assert copy is not None  # By the end of 38 tokens that were copied, one is told.
