"""Encodes texts that have most in common with earlier ones, as a document's have from key to key.

Does not know what the text is for.
"""

from __future__ import annotations

import bisect
import re
from collections import OrderedDict
from functools import lru_cache
from itertools import pairwise

import numpy as np

from server.decoding.sampling import IdArray
from server.decoding.tokenizer import EncodedText, Tokenizer

MAX_PARAGRAPHS = 512  # Whose tokens are remembered: of a text of some thousand lines. Guessed.
N_LAST = 2  # Last paragraphs that grow: that before the cursor, and that at the document's end.
HEAD_CHARS = 100  # By so much of it a text is found again. Guessed.
_PARAGRAPH = re.compile(r"\n\n(?=[!-~])")
"""Where a paragraph ends: below a blank line another begins at its margin, with no character that
one library takes for white space and another does not."""


class IncrementalEncoder:
    """Encodes a text that changes little from call to call; equals a fresh encoding, always.

    It goes on from the last word that cannot be touched by the first change. A split looks ahead at
    most to the end of a run of like characters, and no run holds both a line's text and its end; so
    words up to the last whole line before the change stay as they are.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._text = ""
        self._encoded = EncodedText()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        if text != self._text:
            n_kept = self._count_kept_words(text) if self._tokenizer.can_resume else 0
            self._encode_from(n_kept, text)
        return list(self._encoded.token_ids)

    @property
    def n_last_word_tokens(self) -> int:
        """How many tokens the last word of the last text has; 0: it was empty."""
        encoded = self._encoded
        return len(encoded.token_ids) - encoded.word_tokens[-1] if encoded.word_tokens else 0

    def _count_kept_words(self, text: str) -> int:
        """Return how many words of the last text are words of this one, surely."""
        offsets = self._encoded.word_offsets
        first_changed = bisect.bisect_left(
            range(len(offsets)), True, key=lambda i: text[: offsets[i]] != self._text[: offsets[i]]
        )
        if first_changed == 0:
            return 0
        n_equal = offsets[first_changed - 1]
        if first_changed == len(offsets) and text.startswith(self._text):
            n_equal = len(self._text)
        horizon = _last_whole_line(text, n_equal)
        return max(0, bisect.bisect_right(offsets, horizon) - 1)

    def _encode_from(self, n_kept: int, text: str) -> None:
        """Keep that many words, encode the rest anew."""
        kept = self._encoded
        start = kept.word_offsets[n_kept] if n_kept else 0
        n_tokens = kept.word_tokens[n_kept] if n_kept else 0
        tail = self._tokenizer.encode_words(text[start:])
        self._text = text
        self._encoded = EncodedText(
            token_ids=kept.token_ids[:n_tokens] + tail.token_ids,
            word_offsets=kept.word_offsets[:n_kept] + [start + o for o in tail.word_offsets],
            word_tokens=kept.word_tokens[:n_kept] + [n_tokens + i for i in tail.word_tokens],
        )


class IncrementalEncoders:
    """Encoders of several texts that are asked for in turn, so that none is encoded anew for the
    sake of another.
    """

    def __init__(self, tokenizer: Tokenizer, n_texts: int) -> None:
        """Know no text yet; of more than `n_texts` the one used last long ago is forgotten."""
        self._tokenizer = tokenizer
        self._n_texts = n_texts
        self._by_head: OrderedDict[str, IncrementalEncoder] = OrderedDict()

    def of(self, text: str) -> IncrementalEncoder:
        """Return the encoder of the text that began as this one does."""
        head = text[:HEAD_CHARS]
        if head not in self._by_head:
            self._by_head[head] = IncrementalEncoder(self._tokenizer)
            if len(self._by_head) > self._n_texts:
                self._by_head.popitem(last=False)
        self._by_head.move_to_end(head)
        return self._by_head[head]


class ParagraphEncoder:
    """Encodes long texts, of which most paragraphs were in earlier ones; equals a fresh encoding,
    always.

    No word straddles the end of a paragraph, and how the last words before it are split depends on
    nothing beyond the first character of the next one. The last paragraph, which is written on,
    goes on from what it was.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._last = IncrementalEncoders(tokenizer, N_LAST)
        self._paragraph = lru_cache(MAX_PARAGRAPHS)(self._encode_paragraph)

    def encode(self, text: str) -> IdArray:
        """Return the token ids of a text: [T]."""
        can_resume = self._tokenizer.can_resume
        ends = [end.end() for end in _PARAGRAPH.finditer(text)] if can_resume else []
        starts = [0, *ends]
        parts = [self._paragraph(text[start:end], text[end]) for start, end in pairwise(starts)]
        last = text[starts[-1] :]
        return np.concatenate([*parts, np.array(self._last.of(last).encode(last), np.int64)])

    def _encode_paragraph(self, paragraph: str, following: str) -> IdArray:
        """Return the token ids of a paragraph before another: [T].

        Args:
            paragraph: ends with a blank line.
            following: the first character after it.
        """
        token_ids = self._tokenizer.encode_aside(paragraph + following)
        n_following = len(self._tokenizer.encode_aside(following))
        return np.array(token_ids[: len(token_ids) - n_following], np.int64)


def _last_whole_line(text: str, end: int) -> int:
    """Return where the last line that is not blank and ends before `end` starts, after its indent;
    -1: there is none.
    """
    line_end = text.rfind("\n", 0, end)
    while line_end >= 0:
        start = text.rfind("\n", 0, line_end)
        if line := text[start + 1 : line_end].lstrip():
            return line_end - len(line)
        line_end = start
    return -1
