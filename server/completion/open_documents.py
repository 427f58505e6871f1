"""The documents that are completed, what is remembered of each, and what shapes an offer in them.

Starts nothing and reads no clock; who asks the engine is in `answering`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from weakref import WeakValueDictionary

from server.completion.document import Document
from server.completion.gates import document_gate
from server.completion.generation import Generation, Offer
from server.completion.pending import OnGrowth, Pending
from server.completion.plugin_chains import load_context, load_filters
from server.completion.request import CompletionRequest
from server.options import Options
from server.plugins import Plugins


class OpenDocuments:
    """Documents by name, until they are closed."""

    def __init__(self, options: Options, plugins: Plugins) -> None:
        self._options = options
        self._plugins = plugins
        self._documents: dict[str, Document] = {}
        self._offers: WeakValueDictionary[str, Offer] = WeakValueDictionary()
        """What is remembered, by id, for what the editor tells of it."""
        self._filters = load_filters(options, plugins)
        self._sources = load_context(options, plugins)

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._documents.values()))  # Another thread may ask `is_awaited`.

    def __getitem__(self, name: str) -> Document:
        """Return a document; one that is new is known from now on."""
        return self._documents.setdefault(name, Document())

    def get(self, name: str) -> Document | None:
        """Return a document, if it is known."""
        return self._documents.get(name)

    def close(self, name: str) -> Document | None:
        """Forget a document and return it, if it was known."""
        return self._documents.pop(name, None)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for an answer; may be asked from any thread."""
        return any(document.pending is not None for document in self)

    @property
    def wanted(self) -> set[Generation]:
        """The generations that open requests wait for."""
        waiting = [document.pending for document in self if document.pending is not None]
        return {generation for pending in waiting for generation in pending.generations}

    def set_options(self, options: Options) -> None:
        """Use other settings from the next offer on."""
        has_other_plugins = (options.filters, options.context_sources) != (
            self._options.filters,
            self._options.context_sources,
        )
        self._options = options
        if has_other_plugins:
            self._filters = load_filters(options, self._plugins)
            self._sources = load_context(options, self._plugins)
            for document in self:
                document.forget_context()

    def forget_generated(self) -> None:
        """Forget what was generated: it may be text of files that must not speak any more."""
        for document in self:
            document.forget_generated()

    def open(self, request: CompletionRequest, on_growth: OnGrowth | None) -> Pending:
        """Find or make the offers that answer a request, and let its document wait for them."""
        selected = request.selected_text
        effective = replace(request, prefix=request.prefix + selected, selected_text="")
        n_candidates = self._options.candidates if request.trigger == "invoked" else 1
        document = self[request.document]
        offers = [self._offer(document, effective, candidate) for candidate in range(n_candidates)]
        for offer, _ in offers:
            self._offers[offer.id] = offer
        document.pending = Pending(
            request=effective,
            selected_text=selected,
            offers=offers,
            on_growth=on_growth,
            settled=asyncio.get_running_loop().create_future(),
        )
        return document.pending

    def offer_after_accept(self, document: Document, request: CompletionRequest) -> Offer:
        """Return the offer for a place that is reached by accepting another one."""
        offer, _ = self._offer(document, request, follows_accept=True)
        return offer

    def offered(self, offer_id: str) -> tuple[Offer, Document] | None:
        """Return an offer and its document, if both are still known."""
        offer = self._offers.get(offer_id)
        document = self.get(offer.request.document) if offer is not None else None
        return None if offer is None or document is None else (offer, document)

    def gather_context(self, request: CompletionRequest) -> str:
        """Ask the context sources, which are shown the other open documents."""
        opened = [
            document.as_open()
            for document in self
            if document.request is not None
            and document.request.document != request.document
            and document_gate(document.request, self._options) is None
            and not document.request.is_ignored
        ]
        others = tuple(one for one in reversed(opened) if one is not None)
        return self._sources(replace(request, open_documents=others))

    def _offer(
        self,
        document: Document,
        request: CompletionRequest,
        candidate: int = 0,
        follows_accept: bool | None = None,
    ) -> tuple[Offer, int]:
        return document.offer(
            request,
            candidate,
            options=self._options,
            filters=self._filters,
            gather=self.gather_context,
            follows_accept=follows_accept,
        )
