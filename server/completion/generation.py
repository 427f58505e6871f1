"""A text that an engine generates, and what of it was offered to the editor.

A `Generation` is what the engine said after one prefix, growing while it runs. An `Offer` is how a
request is shown a generation from some place on. Both live on the event loop; the worker's thread
only reads their unchanging parts.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

from server.completion.confidence import sure_chars
from server.completion.engine import CancelToken, EngineRequest, EngineUsage, TextDelta
from server.completion.filters import FilterChain
from server.completion.languages import without_half_word
from server.completion.offer_settings import OfferSettings
from server.completion.request import Candidate, CompletionRequest
from server.completion.stopping import StopRules, find_end
from server.completion.trimming import longest_copy, present, replaced_chars


@dataclass(slots=True, eq=False, kw_only=True)
class Run:
    """One stream of the engine that feeds a generation."""

    is_enough: Callable[[Sequence[TextDelta]], bool]
    """Whether what was generated so far, from the generation's start, is enough. May be replaced
    while the run goes on: a newer request may want more."""
    started_s: float
    arrived: deque[TextDelta] = field(default_factory=deque)
    """What the engine said and the generation has not taken yet; the worker's thread appends."""
    cancel: CancelToken = field(default_factory=CancelToken)
    usage: EngineUsage = field(default_factory=EngineUsage)


@dataclass(slots=True, eq=False, kw_only=True)
class Generation:
    """What an engine says after a prefix. It can be stopped and gone on with."""

    place: CompletionRequest
    """Where it was started."""
    request: EngineRequest
    """What the engine was asked there."""
    settings: Hashable
    deltas: list[TextDelta] = field(default_factory=list)
    text: str = ""
    is_ended: bool = False
    """The engine came to its own end: nothing more will come."""
    is_cut: bool = False
    """That end was the limit of tokens, perhaps in mid-word."""
    error: str = ""
    run: Run | None = None
    """The stream that feeds it now; None: it stands still."""
    usage: EngineUsage = field(default_factory=EngineUsage)
    """Of the last run."""

    @property
    def prefix(self) -> str:
        """Text before the cursor that it was started at."""
        return self.place.prefix

    @property
    def suffix(self) -> str:
        """Text after that cursor."""
        return self.place.suffix

    def add(self, delta: TextDelta) -> None:
        """Append a piece."""
        self.deltas.append(delta)
        self.text += delta.text

    def take(self, run: Run) -> bool:
        """Append the pieces that a run has brought; return whether there were any."""
        n_before = len(self.deltas)
        while run.arrived:
            self.add(run.arrived.popleft())
        return len(self.deltas) > n_before

    def continued(self) -> EngineRequest:
        """Return the engine's request for the text after what is there."""
        return replace(self.request, prefix=self.request.prefix + self.text)

    def stop(self) -> None:
        """Ask the engine to stop; what it says after this is not added."""
        if self.run is not None:
            self.take(self.run)
            self.run.cancel.cancel()
            self.run = None


def deltas_from(deltas: Sequence[TextDelta], start: int) -> Sequence[TextDelta]:
    """Return the pieces from a place in their text on; a cut piece keeps its probability."""
    if start == 0:
        return deltas
    kept = list(deltas)
    while kept and start >= len(kept[0].text):
        start -= len(kept.pop(0).text)
    if kept and start:
        kept[0] = replace(kept[0], text=kept[0].text[start:])
    return kept


@dataclass(slots=True, weakref_slot=True, eq=False, kw_only=True)
class Offer:
    """A generation, from a place on, as a request is shown it.

    The only home of the rule that ghost text never flickers: what was given out once is extended,
    never changed.
    """

    request: CompletionRequest
    settings: OfferSettings
    generation: Generation
    rules: StopRules
    filters: FilterChain
    start: int = 0
    min_confidence: float = 0.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    text: str = ""
    confidence: float = 1.0
    is_complete: bool = False
    reason: str = ""
    was_shown: bool = False
    """The editor told that it showed it."""
    _given: str = ""
    """The longest text that was given out."""

    @property
    def prefix(self) -> str:
        """Text before the cursor that it was made for."""
        return self.request.prefix

    @property
    def suffix(self) -> str:
        """Text after that cursor."""
        return self.request.suffix

    @property
    def is_given(self) -> bool:
        """Whether any of it was given out."""
        return bool(self._given)

    def is_enough(self, deltas: Sequence[TextDelta]) -> bool:
        """Whether more generated text would change nothing; safe on any thread."""
        own = deltas_from(deltas, self.start)
        text = "".join(delta.text for delta in own)
        end = find_end(text, self.rules)
        if end is not None:
            return True
        sure = sure_chars(own, len(text), self.min_confidence, is_final=False)
        return sure is not None and sure < len(text)

    def update(self) -> None:
        """Take over what was generated since."""
        if self.is_complete:
            return
        shown = present(
            self.request,
            deltas_from(self.generation.deltas, self.start),
            rules=self.rules,
            filters=self.filters,
            min_confidence=self.min_confidence,
            is_ended=self.generation.is_ended,
        )
        extends = shown.text.startswith(self._given)
        self.text = shown.text if extends else self._given
        if self.generation.is_cut and self._reaches_the_end():
            self.text = self._finished()
        self.confidence = shown.confidence
        self.is_complete = shown.is_complete
        self.reason = "" if self.text else shown.reason

    def give(self, request: CompletionRequest, n_typed: int) -> Candidate | None:
        """Give out the text after what was typed of it; None: there is none."""
        text = self.text[n_typed:]
        if not text.strip():
            return None
        self._given = max(self._given, self.text, key=len)
        own = deltas_from(self.generation.deltas, self.start)
        return Candidate(
            id=self.id,
            text=text,
            n_replaced=replaced_chars(text, request),
            confidence=self.confidence,
            copied_from=longest_copy(own, len(self.text)),
        )

    def give_by_deadline(self, request: CompletionRequest, n_typed: int) -> Candidate | None:
        """Give out what is finished: whole lines, or the words of the only line."""
        if not self.is_complete:
            self.text = self._finished()
        return self.give(request, n_typed)

    def _reaches_the_end(self) -> bool:
        raw = self.generation.text[self.start :]
        return raw.startswith(self.text) and not raw[len(self.text) :].strip()

    def _finished(self) -> str:
        """Return the whole lines of the text, or the whole words of its only line."""
        raw = self.generation.text[self.start :]
        goes_on = raw.startswith(self.text) and len(raw) > len(self.text)
        head, newline, _ = self.text.rpartition("\n")
        if newline and head.strip():
            ends_line = goes_on and raw[len(self.text)] == "\n"
            finished = self.text if ends_line else head
        elif goes_on:
            finished = without_half_word(raw, len(self.text))
        else:
            finished = without_half_word(self.text + "x", len(self.text))
        return max(finished, self._given, key=len)
