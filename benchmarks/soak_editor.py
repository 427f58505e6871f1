"""An editor that never rests: documents as plain strings, and all that a person does to them.

Every choice comes from a seeded generator; no clock is read. It knows what the server must hold and
may answer, and counts what it does wrong.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from benchmarks.checked_server import CHECKSUM, text_hash
from benchmarks.client import INLINE_COMPLETION, REQUEST_CANCELLED, Client, Pending
from benchmarks.typist import AUTOMATIC, INVOKED, shown_texts

MAX_DOCUMENTS = 20
MAX_CHARS = 20_000
"""A document is begun anew beyond this. Chosen, so that hashing stays cheap."""
MAX_OPEN = 40
"""Answers waited for at once; then the oldest is waited for."""
BEYOND_UTF16 = "\U0001f40d"
WORDS = ("def ", "return ", "self.", "total", " = ", "(", ")", ":\n    ", "\n", "é", BEYOND_UTF16)
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"debounceMs": 0, "maxDebounceMs": 0},
    {"multiLine": "never"},
    {"multiLine": "always", "maxLines": 3},
    {"languages": {"python": False}},
    {"enabled": False},
    {"maxNewTokens": 8, "filters": ["blank"]},
    {"deadlineMs": 50},
)
ACTIONS = {
    "type": 50,
    "type along": 15,
    "delete": 8,
    "paste": 4,
    "replace all": 1,
    "invoke": 4,
    "pause": 12,
    "cancel": 6,
    "accept": 6,
    "accept a word": 2,
    "switch": 3,
    "close": 1,
    "configure": 1,
}
"""How often each happens, in parts of all."""


@dataclass(slots=True, eq=False, kw_only=True)
class Screen:
    """A document as the editor has it."""

    uri: str
    text: str
    line_end: str
    version: int = 1
    cursor: int = 0
    shown: str = ""
    """Ghost text at the cursor, and below the item that it came with."""
    item: dict[str, Any] | None = None
    answered_s: float = 0.0
    """When the latest text of any request came."""


@dataclass(slots=True, eq=False, kw_only=True)
class Asked:
    """A request and what its answer is held against."""

    pending: Pending
    screen: Screen
    position: dict[str, int] | None = None
    hash: str = ""
    version: int = 0


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was done and what went wrong."""

    actions: Counter[str] = field(default_factory=Counter)
    n_requests: int = 0
    n_answers: int = 0
    n_cancelled: int = 0
    n_with_text: int = 0
    n_checked: int = 0
    """Times that both sides' texts were compared."""
    lost_edits: int = 0
    old_answers: int = 0
    """Text for an older request that came after a newer one of the document had its own, or that
    stands elsewhere than at the cursor that was asked about."""
    flickers: int = 0
    errors: list[str] = field(default_factory=list)


class Editor:
    """Acts on its documents through one client."""

    def __init__(self, client: Client, seed: int) -> None:
        self.findings = Findings()
        self._client = client
        self._random = random.Random(seed)
        self._screens: list[Screen] = []
        self._open: deque[Asked] = deque()
        self._n_made = 0
        self._screen = self._new_screen()

    def act(self) -> None:
        """Do one thing, chosen by chance, and look at what was answered."""
        name = self._random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        self.findings.actions[name] += 1
        getattr(self, "_" + name.replace(" ", "_"))()
        while self._open and (
            len(self._open) > MAX_OPEN or self._open[0].pending.is_answered.is_set()
        ):
            self._settle(self._open.popleft())

    def finish(self) -> None:
        """Wait for every answer that is due, and compare every document once more."""
        for screen in self._screens:
            self._check(screen)
        while self._open:
            self._settle(self._open.popleft())

    # What a person does.

    def _type(self) -> None:
        self._insert(self._random.choice(WORDS))
        self._request(AUTOMATIC)

    def _type_along(self) -> None:
        """Type what the ghost text says, if there is one."""
        self._insert(self._screen.shown[:1] or "a")
        self._request(AUTOMATIC)

    def _delete(self) -> None:
        cursor = self._screen.cursor
        self._edit(max(0, cursor - self._random.randint(1, 5)), cursor, "")
        self._request(AUTOMATIC)

    def _paste(self) -> None:
        """Replace any part by anything, and go there."""
        start, end = sorted(self._random.randint(0, len(self._screen.text)) for _ in range(2))
        end = min(end, start + 200)
        text = "".join(self._random.choices(WORDS, k=self._random.randint(0, 40)))
        self._edit(start, end, text)

    def _replace_all(self) -> None:
        screen = self._screen
        beginning = screen.text[: _between_characters(screen.text, 500)]
        screen.text = self._random.choice(("", f"import os{screen.line_end}", beginning))
        screen.cursor = len(screen.text)
        self._tell_change({"text": screen.text})

    def _invoke(self) -> None:
        self._request(INVOKED)

    def _pause(self) -> None:
        """Look at the screen until all is there."""
        while self._open:
            self._settle(self._open.popleft())

    def _cancel(self) -> None:
        open_ = [asked for asked in self._open if asked.position is not None]
        if open_:
            self._client.cancel(self._random.choice(open_).pending)

    def _accept(self) -> None:
        screen, item = self._screen, self._screen.item
        if not screen.shown or item is None:
            return self._type()
        self._insert(screen.shown)
        command = item.get("command")
        if command is not None:
            arguments = {"command": command["command"], "arguments": command["arguments"]}
            asked = self._client.send("workspace/executeCommand", arguments)
            self._note(Asked(pending=asked, screen=screen))
        return self._request(AUTOMATIC)

    def _accept_a_word(self) -> None:
        screen, item = self._screen, self._screen.item
        if not screen.shown or item is None:
            return
        n_chars = min(len(screen.shown), self._random.randint(1, 8))
        told = {"item": item, "acceptedLength": n_chars}
        self._client.tell("textDocument/didPartiallyAcceptCompletion", told)
        self._insert(screen.shown[:n_chars])

    def _switch(self) -> None:
        if len(self._screens) < MAX_DOCUMENTS and self._random.random() < 0.5:
            self._screen = self._new_screen()
        else:
            self._screen = self._random.choice(self._screens)

    def _close(self) -> None:
        if len(self._screens) > 1:
            self._screens.remove(self._screen)
            self._client.tell("textDocument/didClose", {"textDocument": {"uri": self._screen.uri}})
            self._screen = self._random.choice(self._screens)

    def _configure(self) -> None:
        chosen = self._random.choice(SETTINGS)
        settings = {"settings": {"foretype": chosen}}
        self._client.tell("workspace/didChangeConfiguration", settings)

    # What the editor makes of it.

    def _new_screen(self) -> Screen:
        self._n_made += 1
        line_end = self._random.choice(("\n", "\n", "\r\n"))
        text = line_end.join(["import os", "", "def first(x):", "    return x", ""])
        screen = Screen(
            uri=f"file:///soak/{self._n_made}.py", text=text, line_end=line_end, cursor=len(text)
        )
        self._screens.append(screen)
        item = {"uri": screen.uri, "languageId": "python", "version": 1, "text": text}
        self._client.tell("textDocument/didOpen", {"textDocument": item})
        return screen

    def _insert(self, text: str) -> None:
        self._edit(self._screen.cursor, self._screen.cursor, text)

    def _edit(self, start: int, end: int, text: str) -> None:
        screen = self._screen
        if len(screen.text) > MAX_CHARS:
            return self._replace_all()
        text = text.replace("\r\n", "\n").replace("\n", screen.line_end)
        start, end = (_between_characters(screen.text, n) for n in (start, end))
        span = {"start": position_of(screen.text, start), "end": position_of(screen.text, end)}
        screen.text = screen.text[:start] + text + screen.text[end:]
        screen.cursor = start + len(text)
        return self._tell_change({"range": span, "text": text})

    def _tell_change(self, change: dict[str, Any]) -> None:
        screen = self._screen
        screen.version += 1
        screen.shown, screen.item = "", None
        document = {"uri": screen.uri, "version": screen.version}
        changes = {"textDocument": document, "contentChanges": [change]}
        self._client.tell("textDocument/didChange", changes)
        self._check(screen)

    def _check(self, screen: Screen) -> None:
        """Ask what the server holds of a document now."""
        pending = self._client.send(CHECKSUM, {"uri": screen.uri})
        held = {"hash": text_hash(screen.text), "version": screen.version}
        self._note(Asked(pending=pending, screen=screen, **held))

    def _request(self, trigger: int) -> None:
        screen = self._screen
        place = position_of(screen.text, screen.cursor)
        params = {
            "textDocument": {"uri": screen.uri},
            "position": place,
            "context": {"triggerKind": trigger},
        }
        token = f"soak-{self.findings.n_requests}"
        pending = self._client.send(
            INLINE_COMPLETION, params | {"partialResultToken": token}, token
        )
        self._note(Asked(pending=pending, screen=screen, position=place))

    def _note(self, asked: Asked) -> None:
        self.findings.n_requests += 1
        self._open.append(asked)

    # What the server answers.

    def _settle(self, asked: Asked) -> None:
        """Wait for an answer and hold it against what must be."""
        pending, findings = asked.pending, self.findings
        self._client.wait(pending)
        findings.n_answers += 1
        if pending.error is not None:
            is_cancelled = pending.error["code"] == REQUEST_CANCELLED
            if is_cancelled and pending.cancelled_s is not None:
                findings.n_cancelled += 1
            else:
                findings.errors.append(f"{pending.error['code']}: {pending.error['message']}")
        elif asked.hash:
            findings.n_checked += 1
            held = pending.result
            is_same = held.get("hash") == asked.hash and held.get("version") == asked.version
            findings.lost_edits += not is_same
        elif asked.position is not None:
            self._look_at(asked, asked.position)

    def _look_at(self, asked: Asked, place: dict[str, int]) -> None:
        screen, findings = asked.screen, self.findings
        texts = [text for _, text in shown_texts(asked.pending)]
        findings.flickers += sum(
            not later.startswith(earlier) for earlier, later in itertools.pairwise(texts)
        )
        result = asked.pending.result
        items = result["items"] if isinstance(result, dict) else result
        if result is not None and not items and asked.pending.progress:
            items = asked.pending.progress[-1][1]  # All was said as it grew.
        if not texts or not items or not texts[-1]:
            return
        findings.n_with_text += 1
        # Settled in the order in which they were asked.
        findings.old_answers += asked.pending.answered_s < screen.answered_s
        findings.old_answers += not covers(items[0]["range"], place)
        screen.answered_s = max(screen.answered_s, asked.pending.answered_s)
        is_still_there = place == position_of(screen.text, screen.cursor)
        if is_still_there and items[0]["range"]["start"] == place == items[0]["range"]["end"]:
            screen.shown, screen.item = texts[-1].replace("\r\n", "\n"), items[0]


def position_of(text: str, offset: int) -> dict[str, int]:
    """Return an offset as a position, in UTF-16 units; a line ends with its line feed."""
    before = text[:offset]
    line = before.rpartition("\n")[2]
    return {"line": before.count("\n"), "character": len(line.encode("utf-16-le")) // 2}


def _between_characters(text: str, offset: int) -> int:
    """Move out of a line end of two characters: inside it there is no place in a document."""
    return offset - 1 if text[offset - 1 : offset + 1] == "\r\n" else offset


def covers(span: dict[str, dict[str, int]], place: dict[str, int]) -> bool:
    """Whether a range on one line holds a position."""
    start, end = span["start"], span["end"]
    lines = {start["line"], end["line"], place["line"]}
    return len(lines) == 1 and start["character"] <= place["character"] <= end["character"]
