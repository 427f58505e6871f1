"""Whether what is generated stands word for word somewhere in the workspace, and where.

Follows one run of tokens through one text, token by token. Token ids only; pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from server.decoding.memory.index import Segment
from server.decoding.memory.recall import Matches

LONG_COPY_TOKENS = 16
"""More than a line of code, which has 12 on average: from here on it matters where it stands.
Guessed."""


@dataclass(frozen=True, slots=True)
class Copy:
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
        return self.segment.array.stream.follow(self.start - self.n_tokens, 1) == [token_id]


class CopyTrace:
    """The longest run that ends with the last token of one answer."""

    def __init__(self) -> None:
        self._run: Copy | None = None

    def add(self, token_id: int, n_before: int, matches: Matches | None) -> Copy | None:
        """Take in the next token and return the run that it ends, if that is long.

        Args:
            token_id: that was generated.
            n_before: tokens that were generated before it.
            matches: places that agreed with the context before it; None: nobody looked.
        """
        run = self._run
        if run is not None and run.follows(token_id):
            self._run = Copy(run.segment, run.start, run.n_tokens + 1, run.text)
        else:
            self._run = _longest(token_id, n_before, matches) if matches is not None else None
        run = self._run
        return run if run is not None and run.n_tokens >= LONG_COPY_TOKENS else None


def _longest(token_id: int, n_before: int, matches: Matches) -> Copy | None:
    """Return the longest match in the workspace that goes on with a token, that token included.

    What it has in common with the text before the first generated token was not copied.
    """
    says_it = np.where(matches.next_ids == token_id, matches.lengths, 0)
    says_it[: matches.n_in_document] = 0
    match = int(says_it.argmax()) if len(says_it) else 0
    if not len(says_it) or not says_it[match]:
        return None
    stream, segment = matches.origin(match)
    assert segment is not None
    n_copied = min(int(matches.lengths[match]), n_before)
    start = int(matches.places[match]) + n_copied
    text = int(stream.text_indices(np.array([start]))[0])
    return Copy(segment, start, n_copied + 1, text)
