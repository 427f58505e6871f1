"""Types into a real server and notes when ghost text came; decides nothing about the figures.

A `Screen` is one document as an editor holds it; a `Typist` presses keys on it at a steady pace.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.client import INLINE_COMPLETION, Client, Pending
from benchmarks.errors import BenchmarkError

Kind = Literal["typed", "again", "back", "retyped", "warm", "cold"]
AUTOMATIC, INVOKED = 2, 1
POLLED_REQUESTS = 60
"""Requests between two questions for the server's records, of which it keeps 100."""
BACK_KEYS = 3


@dataclass(slots=True, kw_only=True)
class Keystroke:
    """One request, with what the server says of it."""

    kind: Kind
    prefix: str
    pending: Pending
    record: dict[str, Any] | None = None


class Screen:
    """A document with a cursor."""

    def __init__(self, client: Client, uri: str, prefix: str, suffix: str = "") -> None:
        self.prefix = prefix
        self._suffix = suffix
        self._client = client
        self._uri = uri
        self._version = 1
        self._n_requests = 0

    def open(self) -> None:
        """Tell the server of the document."""
        item = {
            "uri": self._uri,
            "languageId": "python",
            "version": self._version,
            "text": self.prefix + self._suffix,
        }
        self._client.tell("textDocument/didOpen", {"textDocument": item})

    def type(self, text: str) -> None:
        """Insert at the cursor."""
        place = position(self.prefix)
        self.prefix += text
        self._change(place, place, text)

    def delete_back(self) -> None:
        """Delete the character before the cursor."""
        end = position(self.prefix)
        self.prefix = self.prefix[:-1]
        self._change(position(self.prefix), end, "")

    def request(self, name: str, *, is_explicit: bool) -> Pending:
        """Ask for a completion at the cursor, to grow while it is made."""
        self._n_requests += 1
        token = f"{name}-{self._uri}-{self._n_requests}"
        params = {
            "textDocument": {"uri": self._uri},
            "position": position(self.prefix),
            "context": {"triggerKind": INVOKED if is_explicit else AUTOMATIC},
            "partialResultToken": token,
        }
        return self._client.send(INLINE_COMPLETION, params, token)

    def _change(self, start: dict[str, int], end: dict[str, int], text: str) -> None:
        self._version += 1
        change = {"range": {"start": start, "end": end}, "text": text}
        params = {
            "textDocument": {"uri": self._uri, "version": self._version},
            "contentChanges": [change],
        }
        self._client.tell("textDocument/didChange", params)


class Typist:
    """Presses keys; a request goes out at each, and the one before is cancelled if it is open."""

    def __init__(self, client: Client, screen: Screen, step: Callable[[str], None]) -> None:
        self.keystrokes: list[Keystroke] = []
        self._client = client
        self._screen = screen
        self._step = step
        self._n_fetched = 0
        """Keystrokes whose records were asked for."""
        self._n_noted = 0
        """Records that the server had then, of all requests."""

    def type(self, text: str, interval_s: float, kind: Kind = "typed") -> None:
        """Type at a pace, whether an answer came or not."""
        for character in text:
            self._screen.type(character)
            self._key(kind, interval_s)

    def type_slowly(self, text: str, kind: Kind = "warm") -> None:
        """Type, and wait for each answer before the next key."""
        for character in text:
            self._screen.type(character)
            self._key(kind, 0.0)
            self._client.wait(self.keystrokes[-1].pending)

    def go_back_and_forth(self, interval_s: float) -> None:
        """Ask again at the same place, delete a few characters and type them again."""
        deleted = self._screen.prefix.rpartition("\n")[2][-BACK_KEYS:]
        self._key("again", interval_s)
        for _ in deleted:
            self._screen.delete_back()
            self._key("back", interval_s)
        self.type(deleted, interval_s, "retyped")

    def pause(self, seconds: float) -> None:
        """Look at the screen until the answer is there, at least for a while."""
        time.sleep(seconds)
        if self.keystrokes:
            self._client.wait(self.keystrokes[-1].pending)

    def finish(self) -> None:
        """Wait for what is open and fetch the last records.

        Raises:
            BenchmarkError: they are not those of our requests.
        """
        if self.keystrokes:
            self._client.wait(self.keystrokes[-1].pending)
        self._fetch_records()

    def _key(self, kind: Kind, interval_s: float) -> None:
        next_s = time.perf_counter() + interval_s
        if len(self.keystrokes) - self._n_fetched >= POLLED_REQUESTS:
            self._fetch_records()
        if self.keystrokes and not self.keystrokes[-1].pending.is_answered.is_set():
            self._client.cancel(self.keystrokes[-1].pending)
        pending = self._screen.request(kind, is_explicit=False)
        self.keystrokes.append(Keystroke(kind=kind, prefix=self._screen.prefix, pending=pending))
        self._step(kind)
        if (left_s := next_s - time.perf_counter()) > 0:
            time.sleep(left_s)

    def _fetch_records(self) -> None:
        """Give the requests since the last time their records."""
        new = self.keystrokes[self._n_fetched :]
        for keystroke in new:
            self._client.wait(keystroke.pending)
        records = self._client.ask("foretype/requests", {})["requests"]
        n_noted = self._client.ask("foretype/status", {})["counters"]["requests"]
        n_new = n_noted - self._n_noted
        if n_new > len(records):
            raise BenchmarkError(f"the server keeps {len(records)} records of {n_new} requests")
        match_records(new, records[len(records) - n_new :])
        self._n_fetched, self._n_noted = len(self.keystrokes), n_noted


def match_records(keystrokes: Sequence[Keystroke], records: Sequence[dict[str, Any]]) -> None:
    """Give each request its record, by their order.

    A request that was cancelled before the server began with it may have none.

    Raises:
        BenchmarkError: they do not match.
    """
    left = deque(records)
    for keystroke in keystrokes:
        is_cancelled = keystroke.pending.error is not None
        if left and (left[0]["reason"] == "cancelled") == is_cancelled:
            keystroke.record = left.popleft()
        elif not is_cancelled:
            raise BenchmarkError("the server's records are not those of our requests, in order")
    if left:
        raise BenchmarkError(f"the server has {len(left)} records of requests that are not ours")


def position(prefix: str) -> dict[str, int]:
    """Return the end of a text as a position, in UTF-16 units."""
    line = prefix.rpartition("\n")[2]
    return {"line": prefix.count("\n"), "character": len(line.encode("utf-16-le")) // 2}


def shown_texts(pending: Pending) -> list[tuple[float, str]]:
    """Return what was to be shown for a request, and when; an empty text takes it off.

    A superseded or cancelled request says nothing: the editor keeps what it shows.
    """
    shown = [(when_s, _text(items)) for when_s, items in pending.progress]
    if pending.error is None and pending.result is not None:
        result = pending.result
        items = result["items"] if isinstance(result, dict) else result
        if items or not shown:
            shown.append((pending.answered_s, _text(items)))
    return shown


def first_text_s(pending: Pending) -> float | None:
    """Return when the first ghost text came, or None."""
    return next((when_s for when_s, text in shown_texts(pending) if text), None)


def _text(items: list[dict[str, Any]]) -> str:
    return str(items[0]["insertText"]) if items else ""
