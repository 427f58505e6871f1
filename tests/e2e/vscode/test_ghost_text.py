"""Ghost text in a real VS Code: it appears, grows, follows the typing and goes into the file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, zip_longest
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

FUNCTION = "def add(a, b):\n    total = a + b\n    return total"
FILES = {
    "grows.py": "", "along.py": "", "while_growing.py": "", "diverges.py": "", "brackets.py": "",
    "crlf.py": "# one\r\n", "emoji.py": "# 🎉🎈\n", "cycles.py": "", "midway.py": "",
    "word.py": "", "escape.py": "", "line.py": "", "asked.py": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def record(recording: Any) -> Any:
    return recording[1]


@pytest.fixture(scope="module")
def window(
    recording: Any,
    scripted: Any,
    start_code_server: Callable[..., Any],
    open_window: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    workspace = tmp_path_factory.mktemp("workspace")
    for name, text in FILES.items():
        (workspace / name).write_bytes(text.encode())
    interpreter, _, environment = recording
    server = start_code_server(
        settings=scripted.user_settings,
        machine_settings=scripted.settings | {"foretype.client.interpreter": str(interpreter)},
        environment=scripted.environment | environment,
    )
    window = open_window(server, workspace)
    window.wait_for_status("script", 60)
    return window


def grown(states: list[str]) -> list[str]:
    """Return the states from the first text on."""
    return states[next(i for i, state in enumerate(states) if state) :]


def extends(before: str, after: str) -> bool:
    """Tell whether a text only grew. VS Code may paint the lines below a frame before the first."""
    lines = zip_longest(before.split("\n"), after.split("\n"), fillvalue="")
    return all(new.startswith(old) for old, new in lines)


def test_it_grows_without_a_blank_frame_and_tab_accepts_it(
    window: Any, record: Any, scripted: Any
) -> None:
    window.open("grows.py")
    window.watch()
    with scripted.held():
        window.type("def a")
        window.wait_for_ghost("a, b")
        pictures = [window.picture(bottom=200)]
    while "return total" not in window.ghost:
        pictures.append(window.picture(bottom=200))
    pictures.append(window.picture(bottom=200))
    states = grown(window.states)
    assert len(states) >= 3
    assert "" not in states
    for before, after in pairwise(states):
        assert extends(before, after)
    assert record.count("textDocument/didShowCompletion") >= 1
    n_accepted = record.count("workspace/executeCommand")
    window.press("Tab")
    window.wait_for_saved("grows.py", FUNCTION)
    assert record.count("workspace/executeCommand") == n_accepted + 1
    window.keep("growing", [*pictures, window.picture(bottom=200)])


def test_typing_along_keeps_it_without_a_new_request(window: Any, record: Any) -> None:
    window.open("along.py")
    window.type("def")
    window.wait_for_ghost("return total")
    n_requests = record.n_requests
    window.watch()
    window.type(" add")
    window.wait_for_ghost("(a, b):")
    assert "" not in window.states
    assert record.n_requests == n_requests
    window.press("Tab")
    window.wait_for_saved("along.py", FUNCTION)


def test_typing_along_while_it_grows_neither_asks_nor_cancels(
    window: Any, record: Any, scripted: Any
) -> None:
    window.open("while_growing.py")
    with scripted.held():
        window.type("def")
        window.wait_for_ghost("add")
        growing = record.messages("textDocument/inlineCompletion")[-1]["id"]
        n_requests = record.n_requests
        window.watch()
        window.type(" a", delay_ms=80)
        window.wait_until(lambda: window.ghost.startswith("dd"), "what is typed is no ghost")
    window.wait_for_ghost("return total")
    assert "" not in window.states
    assert record.n_requests == n_requests
    assert record.cancelled(growing) == 0


def test_typing_something_else_cancels_once_and_replaces_it(
    window: Any, record: Any, scripted: Any
) -> None:
    window.open("diverges.py")
    with scripted.held():
        window.type("def")
        window.wait_for_ghost("add")
        growing = record.messages("textDocument/inlineCompletion")[-1]["id"]
        window.type("ault = d")
        assert window.wait_for_ghost("ef add").startswith("ef add")
    assert record.cancelled(growing) == 1


def test_brackets_of_the_editor_are_not_doubled(window: Any) -> None:
    window.open("brackets.py")
    window.type("def add(")
    window.wait_for_ghost("a, b")
    window.wait_for_ghost("return total")
    window.press("Tab")
    window.wait_for_saved("brackets.py", FUNCTION)


def test_crlf_stays_crlf(window: Any) -> None:
    window.open("crlf.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    window.press("Tab")
    window.wait_for_saved("crlf.py", "# one\r\n" + FUNCTION.replace("\n", "\r\n"))


def test_text_behind_characters_outside_the_basic_plane(window: Any) -> None:
    window.open("emoji.py")
    window.type("x = '🎉'; def a")
    window.wait_for_ghost("return total")
    window.type("d")
    window.press("Tab")
    window.wait_for_saved("emoji.py", "# 🎉🎈\nx = '🎉'; " + FUNCTION)


def test_candidates_can_be_gone_through(window: Any) -> None:
    window.open("cycles.py")
    window.type("def a")
    first = window.wait_for_ghost("return total")
    window.press("Alt+BracketRight")
    window.wait_until(lambda: "return a + b" in window.ghost, "the second candidate is shown")
    window.screenshot("candidates")
    window.press("Alt+BracketLeft")
    window.wait_until(lambda: window.ghost == first, "the first candidate is back")


def test_tab_in_the_middle_accepts_what_is_shown_and_offers_the_rest_next(
    window: Any, scripted: Any
) -> None:
    window.open("midway.py")
    with scripted.held():
        window.type("def a")
        window.wait_for_ghost("a, b")
        window.press("Tab")
        window.wait_until(lambda: "(a, b" in window.saved("midway.py"), "the start is accepted")
        assert "return" not in window.saved("midway.py")
    window.wait_for_ghost("return total")
    window.press("Tab")
    window.wait_for_saved("midway.py", FUNCTION)


def test_the_next_word_is_accepted_and_the_rest_stays(window: Any, record: Any) -> None:
    window.open("word.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    n_requests = record.n_requests
    window.press("Control+ArrowRight")
    window.wait_for_saved("word.py", "def add")
    assert window.wait_for_ghost("(a, b):").startswith("(a, b):")
    assert record.n_requests == n_requests


def test_the_next_line_is_accepted_and_the_rest_stays(window: Any, record: Any) -> None:
    window.open("line.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    n_requests = record.n_requests
    window.press("Control+Alt+KeyL")
    window.wait_for_saved("line.py", "def add(a, b):\n")
    assert "return total" in window.wait_for_ghost("total = a + b")
    assert record.n_requests == n_requests


def test_it_can_be_asked_for(window: Any, record: Any) -> None:
    window.open("asked.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    window.press("Escape")
    window.wait_until(lambda: window.ghost == "", "it is dropped")
    window.press("Alt+Backslash")
    window.wait_for_ghost("return total")
    asked = record.messages("textDocument/inlineCompletion")[-1]["params"]
    assert asked["context"]["triggerKind"] == 1
    assert "partialResultToken" not in asked


def test_escape_ends_it_while_it_grows(window: Any, record: Any, scripted: Any) -> None:
    window.open("escape.py")
    with scripted.held():
        window.type("def a")
        window.wait_for_ghost("a, b")
        growing = record.messages("textDocument/inlineCompletion")[-1]["id"]
        window.press("Escape")
        window.wait_until(lambda: record.cancelled(growing) == 1, "the request is cancelled")
    window.wait_for_status("ready")
    assert window.ghost == ""
