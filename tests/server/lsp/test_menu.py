"""What an editor's menu offers, as the settings are."""

from __future__ import annotations

from typing import Any

import pytest

from server.lsp import menu
from server.options import Options

URI = "file:///a.py"


def labels(options: Options, **document: Any) -> list[str]:
    return [entry["label"] for entry in menu.entries(options, **document)]


def test_everything_can_be_switched_off_from_the_document_outwards() -> None:
    here, language, everywhere = menu.entries(Options(), uri=URI, language="python")
    assert here["label"] == "Turn Off for This File"
    assert (here["command"], here["arguments"]) == (menu.SWITCH_COMMAND, [URI])
    assert language["label"] == "Turn Off for python"
    assert language["settings"] == {"languages": {"python": False}}
    assert everywhere["label"] == "Turn Off Everywhere"
    assert everywhere["settings"] == {"enabled": False}


def test_what_is_off_can_be_switched_on() -> None:
    options = Options(enabled=False, languages={"python": False})
    assert labels(options, uri=URI, language="python", is_off=True) == [
        "Turn On for This File",
        "Turn On for python",
        "Turn On Everywhere",
    ]


def test_a_language_that_is_switched_keeps_what_was_said_of_the_others() -> None:
    options = Options(languages={"*": False, "markdown": True})
    _, language, _ = menu.entries(options, uri=URI, language="python")
    assert language["label"] == "Turn On for python"
    assert language["settings"]["languages"] == {"*": False, "markdown": True, "python": True}


def test_without_a_document_there_is_everything_to_switch() -> None:
    assert labels(Options()) == ["Turn Off Everywhere"]


@pytest.mark.parametrize(
    ("model", "in_use"), [("", menu.EMBEDDED), ("gpt2", "gpt2"), ("/a/bundle", "/a/bundle")]
)
def test_the_models_are_those_that_are_there_and_the_one_in_use(model: str, in_use: str) -> None:
    *choices, another = menu.model_entry(model, ["gpt2", "starcoder"])["entries"]
    assert [c["label"] for c in choices if c["description"] == "in use"] == [in_use]
    assert [c["settings"]["model"] for c in choices][:3] == ["", "gpt2", "starcoder"]
    assert another["setting"] == "model"
