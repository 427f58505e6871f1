"""Fill in the middle: how a text is cut at characters, and how the three parts become one sequence.

Pure: text and a random generator in, token ids out. Two orders, so that the same network reads left
to right, and looks at both sides of the cursor:

    PSM   <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|> M <|endoftext|>
    SPM   <|fim_prefix|> <|fim_suffix|> S <|fim_middle|> P M <|endoftext|>

SPM keeps the prefix last: what is typed only appends, and a cached prompt stays valid.

Source: Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle",
arXiv:2207.14255 (joint SPM, appendix D).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.config import FimConfig
from training.tokenizer import SpecialIds

Order = Literal["psm", "spm"]
Encode = Callable[[str], list[int]]

# Longest middle of each kind, in characters and lines; guessed from what an editor asks for.
LONGEST_SPAN_CHARS = 300
LONGEST_BLOCK_LINES = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """A text in three parts, and what was left over after the suffix."""

    prefix: str
    middle: str
    suffix: str
    rest: str


def cut_for_fill(text: str, rng: np.random.Generator, config: FimConfig, suffix_chars: int) -> Cut:
    """Put a cursor at a random character and take out what follows it.

    Args:
        text: at least one character.
        rng: decides on the place and on what is taken out.
        config: the shares of the kinds of middle.
        suffix_chars: longest suffix; what lies behind it is the rest.
    """
    cursor = int(rng.integers(0, len(text)))
    kind = rng.random()
    if kind < config.line_share:
        end = end_of_line(text, cursor)
    elif kind < config.line_share + config.span_share:
        longest = min(LONGEST_SPAN_CHARS, len(text) - cursor)
        end = cursor + int(np.exp(rng.uniform(0, np.log(longest + 1))))
    else:
        end = end_of_block(text, cursor)
    # Short and empty suffixes are as real as long ones.
    stop = end + int(rng.integers(0, suffix_chars + 1))
    return Cut(text[:cursor], text[cursor:end], text[end:stop], text[stop:])


def end_of_line(text: str, cursor: int) -> int:
    """Return the offset of the newline at or after the cursor, or the text's length."""
    end = text.find("\n", cursor)
    return len(text) if end < 0 else end


def end_of_block(text: str, cursor: int) -> int:
    """Return where the block of the cursor's line ends: before a blank or less indented line."""
    line_start = text.rfind("\n", 0, cursor) + 1
    end = end_of_line(text, cursor)
    indent = _indent(text[line_start:end])
    for _ in range(LONGEST_BLOCK_LINES - 1):
        if end >= len(text):
            break
        next_end = end_of_line(text, end + 1)
        line = text[end + 1 : next_end]
        if not line.strip() or _indent(line) < indent:
            break
        end = next_end
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def assemble(
    cut: Cut, order: Order, encode: Encode, special: SpecialIds, *, joins_tokens: bool = False
) -> list[int]:
    """Return the sequence of a cut in one of the two orders, end token included.

    Args:
        cut: its `rest` is ignored.
        order: PSM or SPM.
        encode: text to ids.
        special: ids of the special tokens.
        joins_tokens: in SPM, tokenize prefix and middle as one text, as a prompt whose last token
            was healed sees them; otherwise the cursor is a token boundary.
    """
    suffix = encode(cut.suffix)
    if order == "psm":
        head = [special.prefix, *encode(cut.prefix), special.suffix, *suffix, special.middle]
        return [*head, *encode(cut.middle), special.end]
    if joins_tokens:
        body = encode(cut.prefix + cut.middle)
    else:
        body = [*encode(cut.prefix), *encode(cut.middle)]
    return [special.prefix, special.suffix, *suffix, special.middle, *body, special.end]


def prompt(
    prefix: str, suffix: str, order: Order, encode: Encode, special: SpecialIds
) -> list[int]:
    """Return the ids after which the model writes the middle."""
    if order == "psm":
        return [special.prefix, *encode(prefix), special.suffix, *encode(suffix), special.middle]
    return [special.prefix, special.suffix, *encode(suffix), special.middle, *encode(prefix)]
