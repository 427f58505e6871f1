"""An answer, applied by an editor to the document as it is there, gives what was meant."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.completion.engine import TextDelta
from server.completion.filters import FilterChain
from server.completion.request import Candidate, CompletionRequest
from server.completion.stopping import stop_rules
from server.completion.trimming import present, replaced_chars
from server.documents import Document, Point
from server.lsp import convert
from server.lsp.positions import PositionEncoding
from server.options import Options
from server.plugins import Plugins

FILTERS = [(name, Plugins().load("filters", name)) for name in Options().filters]
CODECS = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
UNIT_BYTES = {"utf-8": 1, "utf-16": 2, "utf-32": 4}
LANGUAGES = ("python", "typescript", "go", "c", "html", "markdown", "yaml")

PIECES = st.sampled_from(
    (
        *("x", "foo", " = ", "(", ")", "[", "]", "{", "}", '"', "'", ":", ";", ",", ". "),
        *("\n", "\n    ", "\n\t", "    ", "\t", "return x", "# note", "</b>", "<b>"),
        *("😀", "🚀", "é", "e\u0301", "漢", "ab) + c", '");'),
    )
)
TEXTS = st.lists(PIECES, max_size=10).map("".join)


def candidate(request: CompletionRequest, said: str, multi_line: str) -> Candidate | None:
    """Return what is offered of what the model says."""
    shown = present(
        request,
        [TextDelta(text=said, logprob=math.log(0.9))] if said else [],
        rules=stop_rules(request, multi_line, 4),
        filters=FilterChain(FILTERS, lambda name, how: pytest.fail(f"{name}: {how}")),
        is_ended=True,
    )
    if not shown.text:
        return None
    return Candidate(id="1", text=shown.text, n_replaced=replaced_chars(shown.text, request))


def applied(text: str, item: dict[str, Any], encoding: str) -> str:
    """Apply an item as an editor does, on bytes, with nothing of the server's own."""
    lines = text.split("\n")
    number = item["range"]["start"]["line"]
    assert item["range"]["end"]["line"] == number
    line, size = lines[number].encode(CODECS[encoding]), UNIT_BYTES[encoding]
    start, end = (size * item["range"][side]["character"] for side in ("start", "end"))
    assert start <= end <= len(line)
    new = line[:start] + item["insertText"].encode(CODECS[encoding]) + line[end:]
    lines[number] = new.decode(CODECS[encoding])
    return "\n".join(lines)


@given(
    before=TEXTS,
    after=TEXTS,
    said=TEXTS,
    language=st.sampled_from(LANGUAGES),
    line_end=st.sampled_from(("\n", "\r\n")),
    encoding=st.sampled_from(sorted(CODECS)),
    multi_line=st.sampled_from(("auto", "always")),
)
@settings(max_examples=300)
def test_the_answer_applied_gives_prefix_text_and_what_is_left_of_the_suffix(
    before: str,
    after: str,
    said: str,
    language: str,
    line_end: str,
    encoding: PositionEncoding,
    multi_line: str,
) -> None:
    request = CompletionRequest(
        document="file:///a", version=1, prefix="y" + before, suffix=after, language=language
    )
    offered = candidate(request, said, multi_line)
    if offered is None:
        return
    text = (request.prefix + request.suffix).replace("\n", line_end)
    subject = Document(uri="file:///a", language=language, version=1, text=text)
    point = Point(request.prefix.count("\n"), len(request.prefix.rsplit("\n", 1)[-1]))
    (item,) = convert.items([offered], convert.place_at(subject, point, encoding))
    meant = request.prefix + offered.text + request.suffix[offered.n_replaced :]
    # A document of one line says nothing of its line ends: the text then brings LF.
    own_end = line_end if "\n" in request.prefix + request.suffix else "\n"
    assert applied(text, item, encoding) == meant.replace("\n", own_end)
    replaced = request.suffix[: offered.n_replaced]
    rest_of_line = request.suffix.split("\n", 1)[0]
    assert rest_of_line.startswith(replaced)
