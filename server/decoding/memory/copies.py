"""Whether what is generated stands word for word somewhere in the workspace, and where.

Follows one run of tokens through one text, token by token. Token ids only; pure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from server.decoding.memory.index import Segment
from server.decoding.memory.recall import Matches

LONG_COPY_TOKENS = 16
"""More than a line of code, which has 12 on average: from here on it matters where it stands.
Guessed."""


class Copy(NamedTuple):
    """A run of generated tokens as it stands in a text of the workspace."""

    segment: Segment
    start: int
    """Place of its first token in the segment's stream."""
    n_tokens: int
    text: int
    """Which of the segment's texts it stands in."""

    @property
    def path(self) -> str:
        """Of the text."""
        return self.segment.names[self.text]

    @property
    def offset(self) -> int:
        """Tokens of the text before the run."""
        return self.segment.array.stream.offset(self.start, self.text)

    @property
    def tokens_before(self) -> np.ndarray:
        """The text's tokens before the run: [offset]."""
        return self.segment.array.stream.text(self.text)[: self.offset]

    def is_of(self, segment: Segment) -> bool:
        """Whether the run's text lies in a segment and may speak there."""
        is_same = segment.array is self.segment.array
        return is_same and bool(segment.is_alive[self.text])

    def follows(self, token_id: int) -> bool:
        """Whether the text goes on with a token after the run."""
        end = self.start - self.n_tokens
        return end > 0 and self.segment.array.stream.next_id(end) == token_id

    def goes_on(self, earlier: Copy) -> bool:
        """Whether an earlier copy is the beginning of this one."""
        return self.segment is earlier.segment and self.start == earlier.start


class CopyTrace:
    """The longest run that ends with the last token of one answer, once it is long."""

    def __init__(self) -> None:
        self._run: Copy | None = None

    def add(self, token_id: int, n_before: int, matches: Matches | None) -> Copy | None:
        """Take in the next token and return the run that it ends, if that is long.

        Args:
            token_id: that was generated.
            n_before: tokens that were generated before it.
            matches: places that agreed with the context before it; None: nobody looked.
        """
        run, self._run = self._run, None
        if run is not None and run.follows(token_id):
            self._run = Copy(run.segment, run.start, run.n_tokens + 1, run.text)
        elif matches is not None and n_before + 1 >= LONG_COPY_TOKENS:
            self._run = _long_run(token_id, n_before, matches)
        return self._run


def _long_run(token_id: int, n_before: int, matches: Matches) -> Copy | None:
    """Return the longest match in the workspace that goes on with a token, that token included, if
    that is long.

    What it has in common with the text before the first generated token was not copied.
    """
    found = matches.found
    if found.longest + 1 < LONG_COPY_TOKENS:
        return None
    number = found.longest_with(token_id, matches.n_in_document)
    if number is None:
        return None
    match = found.match(number)
    if match.length + 1 < LONG_COPY_TOKENS:
        return None
    stream, segment = matches.origin(number)
    assert segment is not None
    n_copied = min(match.length, n_before)
    start = match.place + n_copied
    text = int(stream.text_indices(np.array([start]))[0])
    return Copy(segment, start, n_copied + 1, text)
