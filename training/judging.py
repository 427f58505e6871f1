"""How a network does on a user's own code and on general code: bits per byte, token accuracy.

Judging is bounded, because on two busy cores it must not take longer than learning. Knows networks;
nothing of how one was tuned nor of how it is served.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluate import NamedModel
from training.likelihood import Score, score_text, score_tokens, total
from training.repository import HeldBack
from training.tokenizer import encode, token_bytes

JUDGED_CHARS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a model does on held-back lines of the repository and on general code."""

    own: Score
    general: Score


def judge(
    named: NamedModel, held_back: Sequence[HeldBack], general: Sequence[str], seed: int
) -> Judgement:
    """Score held-back lines in their files, and general texts."""
    named.model.eval()
    return Judgement(
        own=total([_score_lines(named, held) for held in bounded(held_back, seed)]),
        general=score_texts(named, general),
    )


def score_texts(named: NamedModel, texts: Sequence[str]) -> Score:
    """Score whole texts."""
    return total([score_text(named.model, named.tokenizer, text) for text in texts])


def bounded(held_back: Sequence[HeldBack], seed: int) -> list[HeldBack]:
    """Return texts in a random order until `JUDGED_CHARS` are reached; at least one."""
    chosen: list[HeldBack] = []
    room = JUDGED_CHARS
    for held in random.Random(seed).sample(held_back, len(held_back)):
        if not chosen or len(held.text) <= room:
            chosen.append(held)
            room -= len(held.text)
    return chosen


def _score_lines(named: NamedModel, held: HeldBack) -> Score:
    """Score the tokens that begin in a held-back line, given all that stands before them."""
    scores = score_tokens(named.model, named.tokenizer, held.text)
    table = token_bytes(named.tokenizer)
    data = [table[i] for i in encode(named.tokenizer, held.text)]
    newlines = np.array([b.count(b"\n") for b in data])
    # A token of newline and indentation belongs to the line that it opens.
    line = 1 + np.cumsum(newlines)
    return scores.total(np.isin(line, sorted(held.lines)))
