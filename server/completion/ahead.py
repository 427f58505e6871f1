"""What the editor tells of completions, counted; and what the engine does ahead, in idle time.

After a completion was shown or accepted, the text after it is generated, so that the next Tab finds
it. After an answer the engine may prefill what typing on will need. Nobody waits for either: any
request stops it, and goes on with it where it fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from server.completion.document import Document
from server.completion.gates import closed_gate
from server.completion.offer_settings import engine_request, offer_settings
from server.completion.open_documents import OpenDocuments
from server.completion.records import Counters
from server.completion.request import Answer
from server.completion.runs import Runs
from server.completion.trimming import replaced_chars
from server.options import Options


class Ahead:
    """Follows what the user does with completions.

    Args:
        documents: where they were offered.
        counters: of what happened.
        runs: gives what the engine works on; None: there is no engine.
    """

    def __init__(
        self, documents: OpenDocuments, counters: Counters, runs: Callable[[], Runs | None]
    ) -> None:
        self._documents = documents
        self._counters = counters
        self._runs = runs
        self._last_shown = ""
        """Id of the completion that the editor showed last."""

    def shown(self, completion_id: str, options: Options) -> None:
        """Count a completion that the editor showed, once; what comes after is generated ahead."""
        found = self._documents.offered(completion_id)
        if found is None or not found[0].was_shown:
            self._counters.shown += 1
        if found is not None:
            found[0].was_shown = True
        self._last_shown = completion_id
        self._look_ahead(completion_id, options)

    def answered(self, answer: Answer, options: Options) -> None:
        """Go on ahead where an answer is the completion that the editor shows already."""
        if any(candidate.id == self._last_shown for candidate in answer.candidates[:1]):
            self._look_ahead(self._last_shown, options)

    def accepted(self, completion_id: str, options: Options) -> None:
        """Count a completion that was accepted as a whole; what comes after it is due."""
        self._counters.accepted += 1
        self._note_accept(completion_id, is_whole=True)
        self._look_ahead(completion_id, options)

    def partially_accepted(self, completion_id: str) -> None:
        """Count a completion of which a part was accepted."""
        self._counters.partially_accepted += 1
        self._note_accept(completion_id, is_whole=False)

    def go_on(self, document: Document) -> None:
        """Let the engine go on with what is generated ahead, as long as nobody asks."""
        runs = self._runs()
        if runs is None or document.ahead is None or document.pending is not None:
            return
        if not runs.go_ahead(document.ahead):
            document.ahead = None

    def warm(self, document: Document, options: Options) -> None:
        """Prefill what typing on from a document's last request will need."""
        runs, request = self._runs(), document.request
        if runs is None or request is None or document.pending is not None:
            return
        typing = replace(request, trigger="automatic")
        settings = offer_settings(typing, options, document.context, 0)
        runs.warm_ahead(engine_request(typing, settings.generation), self._count_warmed)

    def _count_warmed(self, n_tokens: int) -> None:
        self._counters.ahead_tokens += n_tokens

    def _note_accept(self, completion_id: str, *, is_whole: bool) -> None:
        found = self._documents.offered(completion_id)
        if found is not None:
            offer, document = found
            document.note_accept(offer, is_whole=is_whole)

    def _look_ahead(self, completion_id: str, options: Options) -> None:
        """Generate in idle time what is asked for once an offer is accepted."""
        found = self._documents.offered(completion_id)
        if found is None:
            return
        offer, document = found
        after = replace(offer.request, prefix=offer.prefix + offer.text, trigger="automatic")
        replaces = replaced_chars(offer.text, offer.request) > 0
        is_awaited = document.pending is not None
        if is_awaited or not offer.is_complete or replaces or closed_gate(after, options):
            return
        document.ahead = self._documents.offer_after_accept(document, after)
        self.go_on(document)
