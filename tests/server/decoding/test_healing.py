"""Token healing gives back exactly the bytes that it took back, and never gets stuck."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.predictions import LogitsPrediction
from server.bundle import EMBEDDED_FOLDER
from server.decoding.healing import (
    MAX_HEALED_TOKENS,
    Vocabulary,
    count_healed,
    make_healing,
    spelled,
)
from server.decoding.sampling import make_choose
from server.decoding.tokenizer import Detokenizer, Tokenizer
from server.options import SamplingOptions

WORDS = [
    b"",
    b"r",
    b"e",
    b"t",
    b"u",
    b"n",
    b" ",
    b"re",
    b"ret",
    b"return",
    b"returned",
    b"urn",
    b" x",
]
SAMPLES = {
    "python": '''def count(values):
    """Zähle die Werte 漢字 😀."""
    total = 0
    for value in values:
        total += value.weight[0]  # add
    return total


class Counter(object):
\tname = "x"
''',
    "typescript": "const sum = (xs: T[]) => {\n  return xs.map((a) => `${a}😀`);\n};\n",
    "go": "func (s *Set) Add() error {\n\tif err := s.f(); err != nil {\n\t\treturn err\n\t}\n}\n",
    "c": '#include <stdio.h>\r\nint main(void) {\r\n\tprintf("%d\\n", a[0]->b);\r\n}\r\n',
    "html": "<!DOCTYPE html>\n<p class='note'>Größe &amp; <b>mehr</b></p>\n<br/>\n",
    "markdown": "# Über uns\n\nA smile 👩‍🚀😀, 漢字 and 🚀… e\u0301te\u0301.\n\n* one\n* two  \n",
    "yaml": "services:\r\n  web:\r\n    ports: [80, 443]\r\n    # Kommentar\r\n",
}


@cache
def embedded() -> tuple[Tokenizer, Vocabulary]:
    tokenizer = Tokenizer.from_file(EMBEDDED_FOLDER / "tokenizer.json", 8192)
    return tokenizer, Vocabulary(tokenizer.token_bytes)


def allowed(words: list[bytes], healed: bytes, generated: list[int]) -> set[bytes]:
    """The words that may come next."""
    log_probs = np.zeros(len(words), np.float32)
    constrained = make_healing(Vocabulary(words), healed)(generated, log_probs)
    return {words[i] for i in np.flatnonzero(np.isfinite(constrained))}


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"re", {b"re", b"ret", b"return", b"returned"}),
        (b"returned", {b"returned"}),
        (b"x", set()),
        (b"\xff", {b"\xff", b"\xffa", b"\xff\xff"}),
        (b"\xff\xff", {b"\xff\xff"}),
        (b"a\xff", {b"a\xff", b"a\xffz"}),
    ],
)
def test_tokens_with_a_start_are_found(start: bytes, expected: set[bytes]) -> None:
    words = [*WORDS, b"\xff", b"\xffa", b"\xff\xff", b"a\xff", b"a\xffz", b"b"]
    assert {words[i] for i in Vocabulary(words).starting_with(start)} == expected


def test_tokens_with_the_same_bytes_are_all_found() -> None:
    vocabulary = Vocabulary([b"a", b"b", b"a", b"a\0"])
    assert sorted(vocabulary.equal_to(b"a")) == [0, 2]
    assert vocabulary.equal_to(b"c").size == 0


@pytest.mark.parametrize(
    ("healed", "generated", "expected"),
    [
        (b"retu", [], {b"r", b"re", b"ret", b"return", b"returned"}),
        (b"retu", [8], {b"u", b"urn"}),
        (b"retu", [8, 4], set(WORDS)),
        (b"retu", [9], set(WORDS)),
        (b" ", [], {b" ", b" x"}),
    ],
)
def test_what_may_come_next_spells_what_is_missing(
    healed: bytes, generated: list[int], expected: set[bytes]
) -> None:
    assert allowed(WORDS, healed, generated) == expected


def test_a_token_after_which_nothing_fits_is_not_offered() -> None:
    """`ab` is a part of `abc`, but no token starts with `c`."""
    assert allowed([b"a", b"ab", b"bc"], b"abc", []) == {b"a"}


def test_where_no_token_fits_nothing_is_constrained() -> None:
    assert allowed([b"a", b"b"], b"xyz", []) == {b"a", b"b"}


def test_where_all_that_fit_are_impossible_nothing_is_constrained() -> None:
    log_probs = np.array([0, -np.inf], np.float32)
    assert make_healing(Vocabulary([b"a", b"b"]), b"b")([], log_probs) is log_probs


def test_probabilities_are_those_among_what_may_come() -> None:
    log_probs = np.log(np.array([0.5, 0.3, 0.1, 0.1], np.float32))
    words = [b"x", b"ab", b"a", b"abc"]
    constrained = make_healing(Vocabulary(words), b"ab")([], log_probs)
    # `a` leads nowhere: no token starts with `b`.
    assert np.exp(constrained).tolist() == pytest.approx([0, 0.75, 0, 0.25])


def test_the_argument_is_not_changed() -> None:
    log_probs = np.zeros(len(WORDS), np.float32)
    make_healing(Vocabulary(WORDS), b"re")([], log_probs)
    assert not log_probs.any()


@pytest.mark.parametrize(
    ("ids", "n_last_word_tokens", "expected"),
    [
        ([1, 2, 3], 2, 2),
        ([1, 2, 3, 4, 5], 5, MAX_HEALED_TOKENS),
        ([], 0, 0),
        ([1, 0], 1, 0),
        ([1, 0, 2], 3, 1),
        ([1], 4, 1),
    ],
)
def test_the_last_word_is_taken_back_as_far_as_its_tokens_are_text(
    ids: list[int], n_last_word_tokens: int, expected: int
) -> None:
    assert count_healed(WORDS, ids, n_last_word_tokens) == expected


def generate(healed: bytes, seed: int) -> list[int]:
    """Return tokens that are chosen with random logits until the bytes are done."""
    tokenizer, vocabulary = embedded()
    generator = np.random.default_rng(seed)
    choose = make_choose(
        SamplingOptions(temperature=1),
        generator,
        processors=[make_healing(vocabulary, healed)],
        forbidden_ids=vocabulary.silent_ids,
    )
    generated: list[int] = []
    while len(spelled(tokenizer.token_bytes, generated)) < len(healed):
        logits = (4 * generator.normal(size=8192)).astype(np.float32)
        generated.append(choose(generated, LogitsPrediction(logits)).token_id)
    return generated


@pytest.mark.parametrize("language", SAMPLES)
def test_every_cut_of_every_sample_is_given_back(language: str) -> None:
    tokenizer, _ = embedded()
    sample = SAMPLES[language]
    for cut in range(1, len(sample) + 1):
        ids = tokenizer.encode(sample[:cut])
        n_healed = count_healed(tokenizer.token_bytes, ids, MAX_HEALED_TOKENS)
        healed = spelled(tokenizer.token_bytes, ids[len(ids) - n_healed :])
        assert n_healed > 0
        assert sample[:cut].encode().endswith(healed)
        generated = generate(healed, seed=cut)
        said = spelled(tokenizer.token_bytes, generated)
        assert said.startswith(healed)
        shown = Detokenizer(tokenizer.token_bytes, n_skipped=len(healed))
        text = "".join(shown.add(token_id) for token_id in generated)
        assert said[len(healed) :].startswith(text.encode()), "nothing that stands there already"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), st.integers(0, 9)
)
@settings(max_examples=100)
def test_any_text_is_given_back(text: str, seed: int) -> None:
    tokenizer, _ = embedded()
    said = spelled(tokenizer.token_bytes, generate(text.encode(), seed))
    assert said.startswith(text.encode())
