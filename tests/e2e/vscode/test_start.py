"""How the extension comes to a server, and what it says when there is none."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def record(recording: Any) -> Any:
    return recording[1]


@pytest.fixture(scope="module")
def path_without_foretype() -> str:
    """Return the search path without the folders that hold a `foretype-server`."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(f for f in folders if not (Path(f) / "foretype-server").exists())


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that appears when anything of the workspace is run."""
    return tmp_path_factory.mktemp("proof") / "ran"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, proof: Path) -> Path:
    """Return a workspace that tries to be run: its settings, a `python`, a folder `server`."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / ".vscode").mkdir()
    (folder / "server").mkdir()
    (folder / "server" / "__init__.py").write_text(f"open({str(proof)!r}, 'w')")
    (folder / "server" / "options.py").write_text("")
    (folder / "python").write_text(f"#!/bin/sh\ntouch {proof}\n")
    (folder / "python").chmod(0o755)
    settings = {
        "foretype.client.interpreter": str(folder / "python"),
        "foretype.client.requirement": str(folder),
        "foretype.model": str(folder),
        "foretype.deniedPaths": [],
    }
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of Foretype without its dependencies: it borrows this Python's packages."""
    file = tmp_path_factory.mktemp("wheel") / "foretype-0.1.0-py3-none-any.whl"
    info = "foretype-0.1.0.dist-info"
    root = Path(__file__).resolve().parents[3]
    with zipfile.ZipFile(file, "w") as archive:
        packages = (folder for folder in sys.path if Path(folder).name == "site-packages")
        borrowed = "\n".join([str(root), *packages])
        archive.writestr("foretype.pth", borrowed)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: foretype\nVersion: 0.1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture(scope="module")
def window(
    start_code_server: Callable[..., Any],
    open_window: Callable[..., Any],
    scripted: Any,
    recording: Any,
    path_without_foretype: str,
    wheel: Path,
    workspace: Path,
) -> Any:
    """A window on a workspace that isn't trusted, with a Python extension but no server."""
    interpreter, _, environment = recording
    python_extension = {"PYTHON_OF_THE_EXTENSION": str(interpreter)}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PATH": path_without_foretype}
    server = start_code_server(
        machine_settings=scripted.settings | {"foretype.client.requirement": str(wheel)},
        environment=scripted.environment | environment | python_extension | offline,
        more_packages=(Path(__file__).with_name("python-extension"),),
    )
    return open_window(server, workspace)


def test_without_a_server_it_asks_and_makes_no_environment_untold(window: Any, record: Any) -> None:
    window.wait_for_status("error", 60)
    message = window.notification()
    assert "foretype.client.interpreter" in message
    assert not own_environment(window).exists()
    assert record.server_pids == []
    window.screenshot("no-server", top=340, bottom=600)


def test_told_so_it_makes_an_environment_and_starts_from_it(window: Any, record: Any) -> None:
    window.answer("Install Server")
    window.wait_for_status("ready", 120)
    assert (own_environment(window) / "pyvenv.cfg").exists()
    assert record.server_pids == []


def test_in_a_trusted_workspace_the_python_extensions_interpreter_is_taken(
    window: Any, record: Any
) -> None:
    window.command("Workspaces: Manage Workspace Trust")
    window.page.get_by_role("button", name="Trust", exact=True).click()
    window.wait_until(lambda: record.messages("initialized"), "a server from that interpreter")
    window.wait_for_status("ready", 60)


def test_nothing_of_the_workspace_was_run(window: Any, record: Any, proof: Path) -> None:
    given = record.messages("initialize")[-1]["params"]["initializationOptions"]
    assert given["model"] == ""
    assert not proof.exists()


def test_an_interpreter_that_can_not_run_it_is_named_until_it_can(
    start_code_server: Callable[..., Any],
    open_window: Callable[..., Any],
    scripted: Any,
    tmp_path: Path,
) -> None:
    interpreter = tmp_path / "python"
    server = start_code_server(
        machine_settings=scripted.settings | {"foretype.client.interpreter": str(interpreter)},
        environment=scripted.environment,
    )
    window = open_window(server, tmp_path)
    window.wait_for_status("error", 60)
    message = window.notification()
    assert str(interpreter) in message
    assert "foretype.client.interpreter" in message
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    window.command("Foretype: Restart the Server")
    window.wait_for_status("ready", 60)


def test_a_server_that_ends_at_its_start_is_told_once_with_what_to_set(
    start_code_server: Callable[..., Any],
    open_window: Callable[..., Any],
    scripted: Any,
    tmp_path: Path,
) -> None:
    """The language client's own message, which says nothing of what to do, came beside ours."""
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    interpreter.chmod(0o755)
    server = start_code_server(
        machine_settings=scripted.settings | {"foretype.client.interpreter": str(interpreter)},
        environment=scripted.environment,
    )
    window = open_window(server, tmp_path)
    window.wait_for_status("error", 60)
    message = window.notification()
    assert "did not start" in message
    assert "foretype.client.interpreter" in message
    assert window.page.locator(".notification-toast").count() == 1


def own_environment(window: Any) -> Path:
    """Return where the extension makes its environment."""
    storage = window.server.folder / "data" / "User" / "globalStorage" / "foretype.foretype"
    return Path(storage / "server")
