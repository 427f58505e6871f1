"""VS Code offers the server's settings, all of them and as they are."""

from __future__ import annotations

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = runpy.run_path(str(ROOT / "scripts" / "vscode-settings"))


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return json.loads((ROOT / "editor-clients" / "vscode" / "package.json").read_text())


def test_names_are_the_servers_in_the_servers_order(manifest: dict[str, Any]) -> None:
    assert list(SETTINGS["manifest_settings"](manifest)) == list(SETTINGS["server_settings"]())


@pytest.mark.parametrize("name", list(SETTINGS["server_settings"]()))
def test_a_setting_has_the_servers_type_default_and_words(
    manifest: dict[str, Any], name: str
) -> None:
    assert SETTINGS["manifest_settings"](manifest)[name] == SETTINGS["server_settings"]()[name]


def test_settings_that_choose_what_runs_are_out_of_a_workspaces_reach(
    manifest: dict[str, Any],
) -> None:
    properties = manifest["contributes"]["configuration"]["properties"]
    machine = {name for name, entry in properties.items() if entry["scope"] == "machine"}
    assert {"foretype.client.interpreter", "foretype.client.requirement"} < machine
    assert {"foretype.model", "foretype.engine", "foretype.httpUrl"} < machine
    assert "foretype.maxLines" not in machine


def test_what_a_workspace_in_restricted_mode_may_not_set_exists(manifest: dict[str, Any]) -> None:
    restricted = manifest["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    assert set(restricted) <= set(SETTINGS["server_settings"]())
    assert "foretype.deniedPaths" in restricted


def test_the_extension_has_the_projects_version(manifest: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert manifest["version"] == project["version"]
    assert manifest["license"] == project["license"]


def test_types_are_those_of_the_oldest_version_that_is_supported(manifest: dict[str, Any]) -> None:
    assert manifest["engines"]["vscode"] == f"^{manifest['devDependencies']['@types/vscode']}"


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((ROOT / "editor-clients" / "vscode" / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
