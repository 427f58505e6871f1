"""The window around the ghost text: status bar, menu, settings, a server that dies, two windows."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

FUNCTION = "def add(a, b):\n    total = a + b\n    return total"
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "first",
            "metadata": {},
            "outputs": [],
            "source": ["total = 0"],
        }
    ],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def record(recording: Any) -> Any:
    return recording[1]


@pytest.fixture(scope="module")
def server(recording: Any, scripted: Any, start_code_server: Callable[..., Any]) -> Any:
    interpreter, _, environment = recording
    return start_code_server(
        machine_settings=scripted.settings | {"foretype.client.interpreter": str(interpreter)},
        environment=scripted.environment | environment,
    )


@pytest.fixture(scope="module")
def window(server: Any, open_window: Callable[..., Any], tmp_path_factory: Any) -> Any:
    """A window on two folders, `left` and `right`."""
    folder = tmp_path_factory.mktemp("two-folders")
    for name in ("left", "right"):
        (folder / name).mkdir()
        for file in ("states", "menu", "killed", "settings"):
            (folder / name / f"{file}_{name}.py").write_text("")
    (folder / "left" / ".env").write_text("")
    (folder / "left" / "cells.ipynb").write_text(json.dumps(NOTEBOOK))
    workspace = folder / "both.code-workspace"
    workspace.write_text(json.dumps({"folders": [{"path": "left"}, {"path": "right"}]}))
    window = open_window(server, workspace)
    window.wait_for_status("ready", 60)
    return window


def test_the_status_bar_goes_through_its_states(window: Any) -> None:
    window.open("states_left.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    window.wait_for_status("ready")
    states = [label.split(" | ")[0] for label in window.status_states]
    for state in ("loading", "ready", "busy"):
        assert f"Foretype: {state}" in states
    window.screenshot("status", top=560, bottom=600)


@pytest.mark.parametrize(
    ("where", "told_by"),
    [
        ("for This File", "workspace/executeCommand"),
        ("for python", "workspace/didChangeConfiguration"),
        ("Everywhere", "workspace/didChangeConfiguration"),
    ],
)
def test_the_menu_switches_off_and_on(window: Any, record: Any, where: str, told_by: str) -> None:
    def switch(entry: str) -> None:
        n_told = record.count(told_by)
        window.menu(entry)
        window.wait_until(lambda: record.count(told_by) > n_told, "the server knows")

    window.open("menu_right.py")
    switch(f"Turn Off {where}")
    window.type("def a")
    window.wait_for_status("Foretype: off")
    assert window.ghost == ""
    window.clear()
    switch(f"Turn On {where}")
    window.type("def a")
    window.wait_for_ghost("return total")
    window.clear()


def test_what_is_switched_off_leaves_the_screen_and_the_status_follows_the_editor(
    window: Any,
) -> None:
    window.open("menu_left.py")
    window.type("def a")
    window.wait_for_ghost("return total")
    window.command("Foretype: Turn On or Off for This File")
    window.wait_for_status("Foretype: off")
    window.wait_until(lambda: window.ghost == "", "the ghost text is gone")
    window.open("states_right.py")
    window.wait_for_status("Foretype: ready")
    window.open(".env")
    window.wait_for_status("Foretype: inactive")
    window.reveal("menu_left.py")
    window.wait_for_status("Foretype: off")
    window.command("Foretype: Turn On or Off for This File")
    window.wait_for_status("Foretype: ready")


def test_the_status_bar_opens_the_menu_and_the_menu_the_last_requests(window: Any) -> None:
    window.page.locator('[id="foretype.foretype.foretype.status"] a').click()
    window.page.locator(".quick-input-list").get_by_text("Show the Last Requests").wait_for()
    window.screenshot("menu", left=0, top=0, bottom=270)
    window.choose("Show the Last Requests")
    window.page.locator(".view-lines").get_by_text("source").wait_for()
    window.screenshot("requests")
    window.command("View: Close Editor")


def test_the_log_is_shown(window: Any) -> None:
    window.menu("Show the Log")
    window.page.locator("[id='workbench.panel.output']").get_by_text("Starting").first.wait_for()
    window.screenshot("log", top=370, bottom=600)
    window.command("View: Toggle Panel Visibility")


def test_the_walkthrough_says_how_to_begin(window: Any) -> None:
    window.command("Welcome: Open Walkthrough...")
    window.choose("Foretype")
    page = window.page.locator(".gettingStartedContainer")
    for step in ("Give it a Python", "Type, look, press Tab", "See what it does, switch it off"):
        page.get_by_text(step, exact=True).first.wait_for()
    page.get_by_text("Type, look, press Tab", exact=True).first.click()
    page.get_by_text("Keep typing to go along with it").wait_for()
    window.screenshot("walkthrough", bottom=600)
    window.command("View: Close Editor")


def test_a_server_that_is_killed_comes_back(window: Any, record: Any) -> None:
    window.open("killed_left.py")
    before = record.server_pids
    os.kill(before[-1], signal.SIGKILL)
    window.wait_until(lambda: len(record.server_pids) > len(before), "a new server")
    window.wait_for_status("ready", 60)
    window.type("def a")
    window.wait_for_ghost("return total")


def test_a_changed_setting_is_obeyed_without_a_restart(
    window: Any, server: Any, record: Any
) -> None:
    before = record.server_pids
    window.write_user_settings(server.settings | {"foretype.multiLine": "never"})
    window.wait_until(
        lambda: "never" in json.dumps(record.messages("workspace/didChangeConfiguration")),
        "the setting reaches the server",
    )
    window.open("settings_left.py")
    window.type("def a")
    assert window.wait_for_ghost("dd(a, b):") == "dd(a, b):"
    assert record.server_pids == before
    window.write_user_settings(server.settings)


def test_another_model_starts_the_server_anew(window: Any, record: Any) -> None:
    def model() -> str:
        return record.messages("initialize")[-1]["params"]["initializationOptions"]["model"]

    assert model() == ""
    window.menu("Choose a Model")
    window.page.locator(".quick-input-list .monaco-list-row", has_text="in use").wait_for()
    window.choose("Another")
    window.fill("no-such-model")
    window.wait_until(lambda: model() == "no-such-model", "a server for the other model")
    window.wait_for_status("ready", 60)
    window.menu("Choose a Model")
    window.choose("The embedded model")
    window.wait_until(lambda: model() == "", "a server for the embedded model")
    window.wait_for_status("ready", 60)


def test_a_second_window_has_its_own_server(
    window: Any, server: Any, record: Any, open_window: Callable[..., Any], tmp_path: Any
) -> None:
    (tmp_path / "other.py").write_text("")
    before = record.server_pids
    other = open_window(server, tmp_path)
    other.wait_for_status("ready", 60)
    assert len(record.server_pids) == len(before) + 1
    other.open("other.py")
    other.type("def a")
    other.wait_for_ghost("return total")
    other.press("Tab")
    other.wait_for_saved("other.py", FUNCTION)
    os.kill(before[-1], 0)


def test_an_untitled_document_is_completed(window: Any) -> None:
    window.command("File: New Untitled Text File")
    window.page.locator(".tabs-container .tab.active").get_by_text("Untitled-1").wait_for()
    window.type("def a")
    window.wait_for_ghost("return total")


def test_a_cell_of_a_notebook_is_completed(window: Any) -> None:
    window.reveal("cells.ipynb")
    window.page.locator(".notebookOverlay").get_by_text("total").first.click()
    window.press("Control+End")
    window.press("Enter")
    window.type("def a")
    window.wait_for_ghost("return total")
