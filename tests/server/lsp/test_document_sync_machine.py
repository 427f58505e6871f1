"""Documents as the server holds them against plain strings, by generated edits, in each encoding.

Whole messages go through the protocol's border: what is read, translated and applied is all real.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.lsp.server import ForetypeServer

NAMES = ("file:///a.py", "untitled:b")
URIS = st.sampled_from(NAMES)
PIECES = (
    "a",
    "b ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\f",
    "\x85",
    "\u2028",
    "é",
    "\u0301",
    "€",
    "😀",
    "😀😀",
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
HALVES = st.text(alphabet="a\n\ud83d\ude00", max_size=4)
PLACES = st.integers(0, 1000)
LINE_END = re.compile(r"\r\n|\n|\r")
UNIT_BYTES = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


class DocumentSync(RuleBasedStateMachine):
    """The model is a plain string per open document, and a version."""

    encoding: ClassVar[str]

    @initialize()
    def start(self) -> None:
        self.model: dict[str, tuple[int, str]] = {}
        self.version = 0
        self.answers: list[dict[str, Any]] = []
        self.server = ForetypeServer({})
        self.server.protocol.set_writer(self)  # type: ignore[no-untyped-call]
        general = {"positionEncodings": [self.encoding]}
        params = {"processId": None, "rootUri": None, "capabilities": {"general": general}}
        self.send({"id": 1, "method": "initialize", "params": params})
        given = self.answers[0]["result"]["capabilities"]["positionEncoding"]
        assert given == self.encoding
        for uri in NAMES:
            self.open_document(uri, "é😀a\r\n€😀b\n")

    def write(self, data: bytes) -> None:
        self.answers.append(json.loads(data.split(b"\r\n\r\n", 1)[1]))

    def close(self) -> None:
        """Do nothing; pygls wants its writers to have it."""

    def send(self, message: dict[str, Any]) -> None:
        self.server.protocol.receive(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def tell(self, method: str, params: Any) -> None:
        self.send({"method": f"textDocument/{method}", "params": params})

    def next_version(self) -> int:
        self.version += 1
        return self.version

    @rule(uri=URIS, text=TEXTS)
    def open_document(self, uri: str, text: str) -> None:
        """Open one; if it is open, it begins anew."""
        version = self.next_version()
        item = {"uri": uri, "languageId": "python", "version": version, "text": text}
        self.tell("didOpen", {"textDocument": item})
        self.model[uri] = (version, text)

    @rule(uri=URIS)
    def close_document(self, uri: str) -> None:
        self.tell("didClose", {"textDocument": {"uri": uri}})
        self.model.pop(uri, None)

    @rule(uri=URIS, edits=st.lists(st.tuples(PLACES, PLACES, TEXTS | HALVES), max_size=3))
    def edit(self, uri: str, edits: list[tuple[int, int, str]]) -> None:
        """Replace parts, one after another, each in the text that the one before it left."""
        version, text = self.next_version(), self.model.get(uri, (0, ""))[1]
        changes = []
        for one, other, new in edits:
            start, end = sorted(between_characters(text, n % (len(text) + 1)) for n in (one, other))
            places = [self.position(text, start, one), self.position(text, end, other)]
            changes.append({"range": dict(zip(("start", "end"), places, strict=True)), "text": new})
            text = paired(text[:start] + new + text[end:])
        self.change(uri, version, changes, text)

    @rule(uri=URIS, text=TEXTS)
    def replace_all(self, uri: str, text: str) -> None:
        self.change(uri, self.next_version(), [{"text": text}], text)

    @rule(uri=URIS)
    def edit_beyond_the_end(self, uri: str) -> None:
        """A place below the last line is the document's end."""
        text = self.model.get(uri, (0, ""))[1]
        place = {"line": 9999, "character": 3}
        changes = [{"range": {"start": place, "end": place}, "text": "x"}]
        self.change(uri, self.next_version(), changes, text + "x")

    @rule(uri=URIS)
    def edit_unreadably(self, uri: str) -> None:
        """A document whose edit can't be read is not known any more."""
        edited = {"uri": uri, "version": self.next_version()}
        self.tell("didChange", {"textDocument": edited, "contentChanges": [{"range": []}]})
        self.model.pop(uri, None)

    def change(self, uri: str, version: int, changes: list[Any], text: str) -> None:
        edited = {"uri": uri, "version": version}
        self.tell("didChange", {"textDocument": edited, "contentChanges": changes})
        if uri in self.model:
            self.model[uri] = (version, text)

    def position(self, text: str, offset: int, choice: int) -> dict[str, int]:
        """Return an offset as the client writes it, or as one that is sloppy does."""
        above = list(LINE_END.finditer(text, 0, offset))
        start = above[-1].end() if above else 0
        character = n_units(text[start:offset], self.encoding)
        is_end_of_line = text[offset : offset + 1] in ("", "\n", "\r")
        if is_end_of_line and choice % 3 == 0:
            character += 7  # Beyond the end of a line is its end.
        elif not is_end_of_line and choice % 3 == 0:
            character += n_units(text[offset], self.encoding) - 1  # Inside one is before it.
        return {"line": len(above), "character": character}

    @invariant()
    def both_sides_hold_the_same(self) -> None:
        held = {document.uri: document for document in self.server.documents.store}
        assert held.keys() == self.model.keys()
        for uri, (version, text) in self.model.items():
            assert held[uri].text == text
            assert held[uri].version == version
            lines = LINE_END.split(text)
            assert [held[uri].line(n) for n in range(held[uri].n_lines)] == lines
            assert held[uri].n_chars == sum(map(len, lines)) + len(lines) - 1

    @invariant()
    def notifications_are_not_answered(self) -> None:
        assert len([one for one in self.answers if "id" in one]) == 1


def n_units(text: str, encoding: str) -> int:
    codec, width = UNIT_BYTES[encoding]
    return len(text.encode(codec, "surrogatepass")) // width


def between_characters(text: str, offset: int) -> int:
    """Move out of a line end of two characters, where the protocol has no place."""
    return offset - 1 if text[offset - 1 : offset + 1] == "\r\n" else offset


def paired(text: str) -> str:
    """Two halves side by side are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


OFTEN = settings(
    max_examples=25,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow],
)


def machine(encoding: str) -> Any:
    kind = type(f"DocumentSync_{encoding}", (DocumentSync,), {"encoding": encoding})
    case = kind.TestCase
    case.settings = OFTEN
    return case


TestUtf8 = machine("utf-8")
TestUtf16 = machine("utf-16")
TestUtf32 = machine("utf-32")
