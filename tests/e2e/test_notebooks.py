"""A real server and a notebook: what stands in the cells above is what a cell goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.client import Client, Json, position

pytestmark = pytest.mark.e2e

NOTEBOOK = "file:///workspace/book.ipynb"
CAPABILITIES: dict[str, Any] = {"notebookDocument": {"synchronization": {}}}


def uri(name: str) -> str:
    return f"vscode-notebook-cell:/workspace/book.ipynb#{name}"


def cell(name: str, kind: int = 2) -> dict[str, Json]:
    return {"kind": kind, "document": uri(name)}


def item(name: str, text: str, language: str = "python") -> dict[str, Json]:
    return {"uri": uri(name), "languageId": language, "version": 1, "text": text}


def open_notebook(client: Client, *items: dict[str, Json]) -> None:
    names = [one["uri"].rpartition("#")[2] for one in items]
    kinds = [1 if one["languageId"] == "markdown" else 2 for one in items]
    notebook = {
        "uri": NOTEBOOK,
        "notebookType": "jupyter-notebook",
        "version": 1,
        "cells": [cell(name, kind) for name, kind in zip(names, kinds, strict=True)],
    }
    params = {"notebookDocument": notebook, "cellTextDocuments": list(items)}
    client.notify("notebookDocument/didOpen", params)


def change(client: Client, **cells: Json) -> None:
    notebook = {"uri": NOTEBOOK, "version": 2}
    params = {"notebookDocument": notebook, "change": {"cells": cells}}
    client.notify("notebookDocument/didChange", params)


def seen(client: Client, name: str, line: int, character: int) -> int:
    """Return the length of what a completion goes on from, which the engine of the tests says."""
    (completion,) = client.complete(uri(name), line, character)
    return int(completion["insertText"].removeprefix("echo_").partition("(")[0])


@pytest.fixture
def client() -> Iterator[Client]:
    with Client.start("--engine", "echo") as started:
        offered = started.initialize(capabilities=CAPABILITIES)
        assert offered["notebookDocumentSync"]["notebookSelector"] == [{"notebook": "*"}]
        started.wait_ready()
        yield started


def test_the_cells_above_of_one_language_are_the_prefix(client: Client) -> None:
    open_notebook(
        client,
        item("a", "import os\nx = 1"),
        item("b", "# A title", "markdown"),
        item("c", "y = "),
        item("d", "z = 2"),
    )
    assert seen(client, "c", 0, 4) == len("import os\nx = 1\n\ny = ")
    assert seen(client, "a", 1, 5) == len("import os\nx = 1")
    assert seen(client, "b", 0, 9) == len("# A title")


def test_an_empty_cell_goes_on_from_those_above(client: Client) -> None:
    open_notebook(client, item("a", "import os"), item("b", ""))
    assert seen(client, "b", 0, 0) == len("import os\n\n")
    open_notebook(client, item("b", ""))
    assert client.complete(uri("b"), 0, 0) == []
    assert client.reason() == "nothing stands before the cursor"


def test_edits_and_cells_that_come_move_and_go_are_followed(client: Client) -> None:
    open_notebook(client, item("a", "x = 1"), item("b", "y = "))
    end = position(0, 5)
    typed = {"range": {"start": end, "end": end}, "text": "234"}
    edited = {"document": {"uri": uri("a"), "version": 2}, "changes": [typed]}
    change(client, textContent=[edited])
    assert seen(client, "b", 0, 4) == len("x = 1234\n\ny = ")
    array = {"start": 0, "deleteCount": 0, "cells": [cell("c")]}
    change(client, structure={"array": array, "didOpen": [item("c", "import os")]})
    assert seen(client, "b", 0, 4) == len("import os\n\nx = 1234\n\ny = ")
    array = {"start": 1, "deleteCount": 1}
    change(client, structure={"array": array, "didClose": [{"uri": uri("a")}]})
    assert seen(client, "b", 0, 4) == len("import os\n\ny = ")
    change(client, data=[cell("c", 1)])
    assert seen(client, "b", 0, 4) == len("y = ")


def test_a_notebook_that_is_closed_takes_its_cells_along(client: Client) -> None:
    open_notebook(client, item("a", "x = 1"), item("b", "y = "))
    assert client.request("foretype/tasks", None)["documents"] == 2
    closed = {"notebookDocument": {"uri": NOTEBOOK}, "cellTextDocuments": [{"uri": uri("a")}]}
    client.notify("notebookDocument/didClose", closed)
    assert client.request("foretype/tasks", None)["documents"] == 0


def test_a_change_that_cannot_be_read_loses_the_notebook(client: Client) -> None:
    open_notebook(client, item("a", "x = 1"), item("b", "y = "))
    change(client, structure={"array": "nonsense"})
    assert client.complete(uri("b"), 0, 4) == []
    assert client.reason() == "the document is not open"
    open_notebook(client, item("b", "y = "))
    assert seen(client, "b", 0, 4) == 4


def test_a_cell_is_denied_by_its_notebook_s_path(client: Client) -> None:
    settings = {"foretype": {"deniedPaths": ["*.ipynb"]}}
    client.notify("workspace/didChangeConfiguration", {"settings": settings})
    open_notebook(client, item("a", "x = "))
    assert client.complete(uri("a"), 0, 4) == []
    assert client.reason() == "the path is denied by '*.ipynb'"


def test_the_model_goes_on_from_what_another_cell_says() -> None:
    """With the model that is embedded: nothing but the cell above knows this name."""
    call = "registered_quartz_handler(payload, retries=7)\n"
    with Client.start("--threads", "1", "--multi-line", "never") as client:
        client.initialize(capabilities=CAPABILITIES)
        client.wait_ready()
        typed = "third = registered_quartz_"
        open_notebook(client, item("a", f"first = {call}second = {call}"), item("b", typed))
        (completion,) = client.complete(uri("b"), 0, len(typed))
        assert completion["insertText"].startswith("handler(payload, retries=7)")
