"""How well a language model predicts texts, token by token: bits per byte and top-1 accuracy.

Bits per byte compare across vocabularies, loss and perplexity do not. Every token of a text is
scored once: windows overlap by half, and only the new half of a window counts. Knows networks and
texts, not packages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from training.generate import Reader
from training.tokenizer import encode, special_ids

NO_LIMIT = 2**31
# Columns of a score, in this order, so that files can be stacked and resampled.
COLUMNS = ("nats", "bytes", "right", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Sums over one text."""

    nats: float
    n_bytes: int
    n_right: int
    n_tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Return bits per UTF-8 byte."""
        return self.nats / math.log(2) / max(1, self.n_bytes)

    @property
    def perplexity(self) -> float:
        """Return the perplexity per token; it depends on the vocabulary."""
        return math.exp(self.nats / max(1, self.n_tokens))

    @property
    def row(self) -> np.ndarray:
        """Return the sums as one row of `COLUMNS`: [1, 4]."""
        return np.array([[self.nats, self.n_bytes, self.n_right, self.n_tokens]])


@torch.inference_mode()
def score_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, n_ctx: int | None = None
) -> Score:
    """Score a text, read left to right after an end token.

    Args:
        model: in evaluation mode; logits [B, T, V] for ids [B, T].
        tokenizer: the model's own.
        text: at least one character.
        n_ctx: window; the model's own if None.
    """
    n_ctx = min(n_ctx or NO_LIMIT, Reader(model).n_ctx)
    ids = [special_ids(tokenizer).end, *encode(tokenizer, text)]
    nats, n_right, n_scored = 0.0, 0, 0
    for start, fresh in window_starts(len(ids) - 1, n_ctx):
        window = torch.tensor([ids[start : start + n_ctx + 1]])
        logits = model(window[:, :-1])[0, fresh:].float()
        truth = window[0, 1 + fresh :]
        nats += functional.cross_entropy(logits, truth, reduction="sum").item()
        n_right += int((logits.argmax(-1) == truth).sum())
        n_scored += len(truth)
    assert n_scored == len(ids) - 1
    return Score(nats=nats, n_bytes=len(text.encode()), n_right=n_right, n_tokens=n_scored)


def window_starts(n_targets: int, n_ctx: int) -> list[tuple[int, int]]:
    """Return (start, index of the first new target) of windows that score each target once."""
    windows = [(0, 0)]
    scored = min(n_ctx, n_targets)
    while scored < n_targets:
        end = min(scored + n_ctx // 2, n_targets)
        start = end - n_ctx
        windows.append((start, scored - start))
        scored = end
    return windows


def total(scores: Sequence[Score]) -> Score:
    """Add scores up."""
    return Score(
        nats=sum(s.nats for s in scores),
        n_bytes=sum(s.n_bytes for s in scores),
        n_right=sum(s.n_right for s in scores),
        n_tokens=sum(s.n_tokens for s in scores),
    )
