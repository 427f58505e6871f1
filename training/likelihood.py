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
from training.tokenizer import bytes_per_id, encode, end_id

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """What a model made of every token of a text: [T] each."""

    nats: np.ndarray
    is_right: np.ndarray
    n_bytes: np.ndarray

    def total(self, mask: np.ndarray | None = None) -> Score:
        """Add the tokens up, or those of a mask [T]."""
        mask = np.ones(len(self.nats), dtype=bool) if mask is None else mask
        return Score(
            nats=float(self.nats[mask].sum()),
            n_bytes=int(self.n_bytes[mask].sum()),
            n_right=int(self.is_right[mask].sum()),
            n_tokens=int(mask.sum()),
        )


def score_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, n_ctx: int | None = None
) -> Score:
    """Score a text, read left to right after an end token.

    Args:
        model: in evaluation mode; logits [B, T, V] for ids [B, T].
        tokenizer: the model's own.
        text: at least one character.
        n_ctx: window; the model's own if None, and never more.
    """
    return score_tokens(model, tokenizer, text, n_ctx=n_ctx).total()


@torch.inference_mode()
def score_tokens(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, n_ctx: int | None = None
) -> TokenScores:
    """Score every token of a text; arguments as `score_text`."""
    n_ctx = min(n_ctx or NO_LIMIT, Reader(model).n_ctx)
    own_ids = encode(tokenizer, text)
    ids = [end_id(tokenizer), *own_ids]
    nats, right = [], []
    for start, fresh in window_starts(len(own_ids), n_ctx):
        window = torch.tensor([ids[start : start + n_ctx + 1]])
        logits = model(window[:, :-1])[0, fresh:].float()
        truth = window[0, 1 + fresh :]
        nats.append(functional.cross_entropy(logits, truth, reduction="none").numpy())
        right.append((logits.argmax(-1) == truth).numpy())
    sizes = bytes_per_id(tokenizer)[own_ids]
    assert sizes.sum() == len(text.encode())
    return TokenScores(nats=np.concatenate(nats), is_right=np.concatenate(right), n_bytes=sizes)


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
