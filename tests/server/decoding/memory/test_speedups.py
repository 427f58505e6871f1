"""What is compiled, against what is plain."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.predictions import log_softmax
from server.decoding.memory import mixture, search, speedups
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.recall import PASSED_OVER_TOKENS, DocumentText
from server.decoding.memory.search import MAX_PLACES, Places, Source
from server.decoding.memory.stream import TokenWidth
from server.decoding.memory.suffix_array import SuffixArray

if not speedups.IS_COMPILED:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if (
        shutil.which(compiler) and headers.exists()
    ):  # Then the plain way would hide that something is broken.
        raise ImportError("there is a compiler, and nothing was compiled: run `make setup`")
    pytest.skip("no compiler was found at the installation", allow_module_level=True)
_speedups = speedups._speedups

WIDTHS = (TokenWidth(4), TokenWidth(70_000))
ARRAYS = ("lengths", "next_ids", "nearness", "places")

tokens = st.lists(st.integers(0, 3), max_size=40)
# So many that some are left out, however long they agree.
many = st.lists(st.sampled_from(([0, 1], [0, 1, 2], [3, 0, 1, 2], [1])), max_size=120).map(
    lambda parts: [token for part in parts for token in part]
)


def sources(
    width: TokenWidth,
    before: list[int],
    after: list[int],
    segments: list[list[list[int]]],
    silent: set[int],
) -> list[Source]:
    """A document and segments; every text whose number is in `silent` says nothing."""
    document = DocumentText(before, [9] * PASSED_OVER_TOKENS + after, width)
    made = [Source(document, np.zeros(document.stream.n_texts, np.int64))]
    for texts in segments:
        array = SuffixArray([width.pack(ids) for ids in texts], width)
        nearness = [-1 if i in silent else 1 + i % 4 for i in range(len(texts))]
        made.append(Source(array, np.array(nearness, np.int64)))
    return made


def assert_same(found: Places, expected: Places) -> None:
    for name in ARRAYS:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    assert list(found.starts) == list(expected.starts)
    assert (found.n_matches, found.longest) == (expected.n_matches, expected.longest)
    for i in range(expected.n_matches):
        assert found.match(i) == expected.match(i)
    for next_id in range(4):
        for start in (0, expected.starts[-1]):
            assert found.longest_with(next_id, start) == expected.longest_with(next_id, start)


@pytest.mark.parametrize("width", WIDTHS)
@given(
    before=st.one_of(tokens, many),
    after=tokens,
    segments=st.lists(st.lists(st.one_of(tokens, many), min_size=1, max_size=5), max_size=2),
    silent=st.sets(st.integers(0, 4)),
    context=st.one_of(
        st.lists(st.integers(0, 3), min_size=2, max_size=40),
        st.sampled_from(([0, 1], [2, 0, 1], [2, 0, 1, 0, 1])),
    ),
)
@settings(max_examples=200)
def test_it_finds_what_is_found_plainly(
    width: TokenWidth,
    before: list[int],
    after: list[int],
    segments: list[list[list[int]]],
    silent: set[int],
    context: list[int],
):
    asked = sources(width, before, after, segments, silent)
    assert_same(_speedups.Search(asked).find(context), search.Search(asked).find(context))


@pytest.mark.parametrize("width", WIDTHS)
def test_of_many_places_the_longest_are_kept(width: TokenWidth):
    text = [0, 1, 2] * 30 + [3, 0, 1, 2] * 30
    asked = sources(width, text, [], [[text]], set())
    found = _speedups.Search(asked).find([2, 3, 0, 1])
    assert found.n_matches == 2 * MAX_PLACES
    assert_same(found, search.Search(asked).find([2, 3, 0, 1]))


@given(
    before=st.lists(st.integers(0, 7), min_size=4, max_size=60),
    texts=st.lists(st.lists(st.integers(0, 7), max_size=60), min_size=1, max_size=5),
    context=st.lists(st.integers(0, 7), min_size=2, max_size=3),
    seed=st.integers(0, 1000),
    bias=st.floats(-12, 12),
)
@settings(max_examples=200)
def test_it_mixes_as_is_mixed_plainly(
    before: list[int], texts: list[list[int]], context: list[int], seed: int, bias: float
):
    width = TokenWidth(8)
    asked = sources(width, before, [], [texts], set())
    found, expected = _speedups.Search(asked).find(context), search.Search(asked).find(context)
    if not expected.n_matches:
        return
    fitted = Coefficients()
    coefficients = Coefficients(weight=(bias, *fitted.weight[1:]))
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, 8 + seed % 9).astype(np.float32)
    logits[rng.integers(8)] = -np.inf
    log_probs = log_softmax(logits)
    before_mixing = log_probs.copy()
    mixed, weight = _speedups.Mixer(coefficients).mix(found, log_probs)
    plain, plain_weight = mixture.Mixer(coefficients).mix(expected, log_probs)
    assert weight == pytest.approx(plain_weight, rel=1e-9)
    np.testing.assert_allclose(mixed, plain, rtol=1e-6, atol=1e-6)
    assert mixed.dtype == plain.dtype
    assert (log_probs == before_mixing).all()
    likeliest = _speedups.Mixer(coefficients).likeliest(found)
    assert likeliest == mixture.Mixer(coefficients).likeliest(expected)


def test_weight_zero_is_the_network_bit_for_bit():
    asked = sources(TokenWidth(8), [1, 2, 3, 1, 2], [], [], set())
    found = _speedups.Search(asked).find([1, 2])
    never = Coefficients(weight=(-999.0, *[0.0] * 12))
    log_probs = log_softmax(np.zeros(8, np.float32))
    mixed, weight = _speedups.Mixer(never).mix(found, log_probs)
    assert mixed is log_probs
    assert weight == 0


def test_a_network_counts_as_no_more_unsure_than_the_least_logprob_says():
    asked = sources(TokenWidth(8), [1, 2, 3, 1, 2], [], [], set())
    found, expected = _speedups.Search(asked).find([1, 2]), search.Search(asked).find([1, 2])
    weights = []
    for peak in (mixture.LEAST_LOGPROB, mixture.LEAST_LOGPROB - 5):
        log_probs = np.full(8, peak, np.float32)
        weights += [
            _speedups.Mixer(Coefficients()).mix(found, log_probs)[1],
            mixture.Mixer(Coefficients()).mix(expected, log_probs)[1],
        ]
    assert weights == pytest.approx([weights[0]] * 4, rel=1e-9)


def test_more_sources_than_there_is_room_for_are_refused():
    asked = sources(TokenWidth(8), [1, 2, 3], [], [], set())
    with pytest.raises(ValueError, match="too many"):
        _speedups.Search(asked * 9)


def test_what_would_lie_outside_of_an_array_is_refused():
    document, segment = sources(TokenWidth(8), [1, 2, 7, 1, 2], [], [[[1, 2, 3]]], set())
    with pytest.raises(ValueError, match="every text"):
        _speedups.Search([document, segment._replace(nearness=np.zeros(0, np.int64))])
    with pytest.raises(ValueError, match="farther"):
        _speedups.Search([document, segment._replace(nearness=np.array([5]))])
    found = _speedups.Search([document]).find([1, 2])
    with pytest.raises(IndexError, match="token 7 of 7"):
        _speedups.Mixer(Coefficients()).mix(found, np.zeros(7, np.float32))
    with pytest.raises(IndexError):
        found.match(found.n_matches)


def test_it_is_what_the_server_uses():
    asked = sources(TokenWidth(8), [1, 2, 3], [], [], set())
    assert isinstance(speedups.make_search(asked), _speedups.Search)
    assert isinstance(speedups.make_mixer(Coefficients()), _speedups.Mixer)
