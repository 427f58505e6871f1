"""Servers that complete lines, asked alike: ours over stdio, llama.cpp's over HTTP.

Knows how each is asked and what it tells of its answer; not what is asked, nor what is compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.peers.llama_servers import LlamaServer
from benchmarks.typist import Screen, shown_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The rest of a line from one server."""

    ms: float
    text: str
    n_prompt: int
    n_new: int
    """Tokens decoded, as the server counts them."""
    n_prefilled: int | None
    """Tokens of the prompt that were read for it; None: the server does not say."""
    source: str
    """`model`, or where else a server found the answer."""


class LineServer(Protocol):
    """A server that completes lines."""

    name: str
    process: psutil.Process

    def see(self, text: str) -> None:
        """Complete a text, whose time does not count."""

    def complete(self, character: str) -> Answer:
        """Complete the same text after one more character."""


class Foretype:
    """The server of this project, as an editor runs it."""

    def __init__(self, name: str, client: Client, *, asks_before: bool) -> None:
        """Take a server that is ready.

        Args:
            name: as tables show it.
            client: of the server.
            asks_before: whether the text before the last character is completed as well, as when
                somebody types; the answer may then say what the next one is. Otherwise the server
                only reads that text, as it does with what is opened.
        """
        self.name = name
        self.process = client.process
        self._asks_before = asks_before
        self._client = client
        self._n_documents = 0
        self._screen: Screen | None = None
        self._uri = ""

    def see(self, text: str) -> None:
        """Open a document, and ask at its end."""
        if self._screen is not None:
            closed = {"textDocument": {"uri": self._uri}}
            self._client.tell("textDocument/didClose", closed)
        self._n_documents += 1
        self._uri = f"file:///benchmark/line-{self._n_documents}.py"
        self._screen = Screen(self._client, self._uri, text)
        self._screen.open()
        if self._asks_before:
            self._client.wait(self._screen.request("seen", is_explicit=False))

    def complete(self, character: str) -> Answer:
        """Type a character and ask; the edit counts."""
        if self._screen is None:
            raise AssertionError("see comes first")
        started_s = time.perf_counter()
        self._screen.type(character)
        pending = self._screen.request("line", is_explicit=False)
        self._client.wait(pending)
        if pending.error is not None:
            raise BenchmarkError(f"{self.name} refuses: {pending.error}")
        record = self._client.ask("foretype/requests", {})["requests"][-1]
        shown = shown_texts(pending)
        return Answer(
            ms=1e3 * (pending.answered_s - started_s),
            text=shown[-1][1] if shown else "",
            n_prompt=record["promptTokens"],
            n_new=record["newTokens"],
            n_prefilled=record["prefilledTokens"],
            source=record["source"],
        )


class Llama:
    """A server of llama.cpp."""

    def __init__(self, server: LlamaServer, max_tokens: int, stop: Sequence[str]) -> None:
        self.name = server.kind.name
        self.process = server.process
        self._server = server
        self._max_tokens = max_tokens
        self._stop = stop
        self._text = ""

    def see(self, text: str) -> None:
        """Complete a text; its KV cache stays."""
        self._text = text
        self._server.reconnect()
        self._server.complete(text, self._max_tokens, self._stop)

    def complete(self, character: str) -> Answer:
        """Send the whole text again; nearly all of it is in the KV cache."""
        started_s = time.perf_counter()
        said = self._server.complete(self._text + character, self._max_tokens, self._stop)
        ms = 1e3 * (time.perf_counter() - started_s)
        return Answer(
            ms=ms,
            text=said.text,
            n_prompt=said.n_prompt,
            n_new=said.n_new,
            n_prefilled=said.n_prefilled,
            source="model",
        )
