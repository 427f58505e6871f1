"""Fill in the middle: the cut loses nothing, and both orders read as the paper has them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.config import FimConfig
from training.fim import Cut, assemble, cut_for_fill, end_of_block, end_of_line, prompt
from training.tokenizer import encode, special_ids


@given(st.text(min_size=1), st.integers(0, 2**32), st.integers(0, 50))
@settings(max_examples=300)
def test_the_parts_of_a_cut_are_the_text(text: str, seed: int, suffix_chars: int) -> None:
    cut = cut_for_fill(text, np.random.default_rng(seed), FimConfig(), suffix_chars)
    assert cut.prefix + cut.middle + cut.suffix + cut.rest == text
    assert len(cut.suffix) <= suffix_chars


def test_the_line_kind_ends_before_the_newline(rng: np.random.Generator) -> None:
    config = FimConfig(line_share=1.0, span_share=0.0)
    for _ in range(50):
        cut = cut_for_fill("one = 1\ntwo = 2\nthree", rng, config, 10)
        assert "\n" not in cut.middle
        assert (cut.suffix + cut.rest)[:1] in ("\n", "")


def test_a_block_ends_at_the_dedent() -> None:
    text = "if a:\n    b()\n    c()\nd()\n"
    assert text[: end_of_block(text, text.index("b()"))] == "if a:\n    b()\n    c()"
    assert end_of_line(text, 0) == 5
    assert end_of_line("x", 0) == 1


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_sequences_have_the_order_of_the_paper(order: str, tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    to_ids = functools.partial(encode, tokenizer)
    p, m, s = to_ids("self."), to_ids("items"), to_ids("\nreturn")
    ids = assemble(Cut("self.", "items", "\nreturn", "not used"), order, to_ids, special)
    if order == "psm":
        expected = [special.prefix, *p, special.suffix, *s, special.middle, *m, special.end]
    else:
        expected = [special.prefix, special.suffix, *s, special.middle, *p, *m, special.end]
    assert ids == expected
    start = prompt("self.", "\nreturn", order, to_ids, special)
    assert expected[: len(start)] == start


def test_spm_may_tokenize_across_the_cursor(tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    to_ids = functools.partial(encode, tokenizer)
    cut = Cut("self.it", "ems", "", "")
    ids = assemble(cut, "spm", to_ids, special, joins_tokens=True)
    assert ids[3:-1] == to_ids("self.items")
