"""Items, requests and paths as they cross the border."""

from __future__ import annotations

import pytest
from lsprotocol import types

from server.completion.engine import CopySource
from server.completion.request import Candidate
from server.documents import Document, Point
from server.lsp import convert
from server.lsp.structures import InlineParams


def document(text: str, uri: str = "file:///work%20space/src/a.py") -> Document:
    return Document(uri=uri, language="python", version=3, text=text)


def test_an_item_replaces_what_follows_the_cursor_in_the_editors_units() -> None:
    subject = document("😀(é)\r\n")
    place = convert.place_at(subject, Point(0, 2), "utf-16")
    (item,) = convert.items([Candidate(id="7", text="a\nb", n_replaced=2)], place)
    assert item["insertText"] == "a\r\nb"
    assert item["range"] == {
        "start": {"line": 0, "character": 3},
        "end": {"line": 0, "character": 5},
    }
    assert convert.item_id(item) == "7"
    assert convert.item_id({"command": item["command"]}) == "7"


def test_an_item_says_where_a_long_copy_stands() -> None:
    place = convert.place_at(document(""), Point(0, 0), "utf-16")
    source = CopySource(path="lib/b.py", line=4, n_tokens=20)
    candidates = [Candidate(id="1", text="a", copied_from=source), Candidate(id="2", text="b")]
    told, untold = (item["data"] for item in convert.items(candidates, place))
    assert told == {"id": "1", "confidence": 1.0, "copiedFrom": {"path": "lib/b.py", "line": 4}}
    assert untold == {"id": "2", "confidence": 1.0}


@pytest.mark.parametrize("item", [None, 5, {}, {"data": 5}, {"command": {"arguments": []}}])
def test_an_item_that_is_none_of_ours_has_no_id(item: object) -> None:
    assert convert.item_id(item) == ""


def test_accepted_units_become_code_points() -> None:
    assert convert.accepted_chars({"insertText": "😀\r\nab"}, 5) == 3
    assert convert.accepted_chars({"insertText": "ab"}, 99) == 2
    assert convert.accepted_chars({"insertText": "ab"}, "2") == 0
    assert convert.accepted_chars(None, 1) == 0


@pytest.mark.parametrize(
    ("folders", "path"),
    [
        (["file:///work%20space"], "src/a.py"),
        (["file:///other", "file:///work%20space/src/"], "a.py"),
        (["file:///work"], "a.py"),
        ([], "a.py"),
    ],
)
def test_a_path_is_relative_to_its_folder_or_a_name(folders: list[str], path: str) -> None:
    assert convert.relative_path("file:///work%20space/src/a.py", folders) == path


def params(selected: types.SelectedCompletionInfo | None, kind: int = 2) -> InlineParams:
    context = types.InlineCompletionContext(types.InlineCompletionTriggerKind(kind), selected)
    return InlineParams(
        context=context,
        text_document=types.TextDocumentIdentifier("file:///a.py"),
        position=types.Position(0, 6),
    )


@pytest.mark.parametrize(
    ("text", "selected"), [("print", "nt"), ("pri", ""), ("format", ""), ("print_all", "nt_all")]
)
def test_a_selected_menu_entry_is_what_it_would_add(text: str, selected: str) -> None:
    subject = document("é: pri")
    place = convert.place_at(subject, Point(0, 6), "utf-16")
    span = types.Range(types.Position(0, 3), types.Position(0, 6))
    asked = params(types.SelectedCompletionInfo(range=span, text=text))
    request = convert.inline_request(subject, asked, place, [])
    assert request.selected_text == selected
    assert (request.prefix, request.suffix, request.trigger) == ("é: pri", "", "automatic")


def test_a_request_says_who_asked() -> None:
    subject = document("é: pri")
    place = convert.place_at(subject, Point(0, 6), "utf-16")
    request = convert.inline_request(subject, params(None, kind=1), place, [])
    assert (request.trigger, request.version, request.n_chars) == ("invoked", 3, 6)
