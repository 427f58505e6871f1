"""The memory as one answer asks it: once for each token, for the mixture and the draft alike.

Token ids only. Pure but for the snapshot behind the look-ups and the pace that it tells of.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.backends.predictions import LogProbs
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.copies import Copy, CopyTrace
from server.decoding.memory.drafts import Pace
from server.decoding.memory.recall import NO_MATCHES, Matches, Recall
from server.decoding.memory.speedups import make_mixer
from server.decoding.memory.stream import MAX_MATCH_TOKENS

HELPING_WEIGHT = 0.5  # From here on the memory has the greater say in a token.


class AnswerMemory:
    """Recalls what followed the prompt's end and the tokens generated so far."""

    def __init__(
        self,
        recall: Recall,
        context: Sequence[int],
        coefficients: Coefficients,
        pace: Pace,
        *,
        is_mixed: bool = True,
    ) -> None:
        """Prepare for one answer.

        Args:
            recall: of the document.
            context: tokens before the first one that is generated.
            coefficients: for votes and weights.
            pace: how long drafts should be; learns from this answer.
            is_mixed: whether each token is looked up for the mixture anyway.
        """
        self._recall = recall
        self._context = list(context[-MAX_MATCH_TOKENS:])
        self._mixer = make_mixer(coefficients)
        self._pace = pace
        self._is_mixed = is_mixed
        pace.review()
        self._asked: list[int] | None = None
        self._matches = NO_MATCHES
        self._expected: tuple[int, int, int] | None = None
        self._proposed_after: int | None = None
        """How many tokens had been generated when a draft was last looked for."""
        self._trail: dict[int, Matches] = {}
        """What was recalled, by the number of tokens generated before."""
        self._trace = CopyTrace()
        self.n_helped = 0
        """Tokens in which the memory had the greater say."""

    def process(self, generated: Sequence[int], log_probs: LogProbs) -> LogProbs:
        """Mix what is recalled into the log-probabilities [V]; a `Processor`."""
        found = self._look(generated).found
        if not found.n_matches:
            return log_probs
        mixed, weight = self._mixer.mix(found, log_probs)
        self.n_helped += weight >= HELPING_WEIGHT
        return mixed

    def propose(self, generated: Sequence[int]) -> Sequence[int]:
        """Return what followed where the longest match stood; a `Propose`."""
        self._learn_pace(generated)
        if not self._is_mixed and not self._pace.is_worth_looking(len(generated)):
            return ()
        self._proposed_after = len(generated)
        matches = self._look(generated)
        if not matches.found.n_matches:
            return ()
        likeliest = self._mixer.likeliest(matches.found)
        best = matches.found.longest_with(likeliest, 0)
        assert best is not None
        length = matches.found.match(best).length
        self._expected = (len(generated), length, likeliest)
        n_tokens = self._pace.draft_length(length)
        return matches.follow(best, n_tokens) if n_tokens else ()

    def copied(self, token_id: int, n_before: int, n_new: int) -> Copy | None:
        """Return the long copy that a token ends, if it does; asked once for each, in order.

        Args:
            token_id: the token.
            n_before: tokens that were generated before it.
            n_new: those of them that are new text; what was taken back and is written again is no
                copy.
        """
        return self._trace.add(token_id, n_new, self._trail.pop(n_before, None))

    def _learn_pace(self, generated: Sequence[int]) -> None:
        """Tell whether the token that was expected last came, whether it was drafted or not, and
        how many drafted ones came with it.
        """
        if self._proposed_after is not None and len(generated) > self._proposed_after:
            self._pace.gained(len(generated) - self._proposed_after - 1)
            self._proposed_after = None
        if self._expected is not None:
            n_before, length, token_id = self._expected
            if n_before < len(generated):
                self._pace.saw(length, was_right=generated[n_before] == token_id)
            self._expected = None

    def _look(self, generated: Sequence[int]) -> Matches:
        """Return what is recalled; asked again for the same tokens, it answers at once."""
        context = [*self._context, *generated][-MAX_MATCH_TOKENS:]
        if context != self._asked:
            self._asked = context
            self._matches = self._recall.matches(context)
            self._trail[len(generated)] = self._matches
        return self._matches
