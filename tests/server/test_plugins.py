"""Plugins: found through entry points, blocked and named when broken, and never fatal."""

from __future__ import annotations

from importlib import metadata
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest

from server import plugins as plugins_module
from server.errors import PluginError
from server.plugins import GROUPS, Plugins

ENTRY_POINTS = """
[foretype.filters]
ascii = foretype_sample:ascii_only
broken = foretype_sample_that_is_not_there:anything

[foretype.engines]
local = foretype_sample:ascii_only
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a distribution with three entry points on the import path."""
    (tmp_path / "foretype_sample.py").write_text("def ascii_only(draft):\n    return draft.text\n")
    info = tmp_path / "foretype_sample-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foretype-sample\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_built_ins_are_registered_like_any_plugin() -> None:
    plugins = Plugins()
    assert {"ort", "pytorch"} <= set(plugins.names("backends"))
    assert {"local", "http"} <= set(plugins.names("engines"))
    for group in GROUPS:
        assert plugins.names(group)


def test_the_distributions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading opens the metadata of all that is installed, while an editor waits."""
    readings = []

    def entry_points(**wanted: str) -> EntryPoints:
        readings.append(wanted)
        return metadata.entry_points(**wanted)

    monkeypatch.setattr(plugins_module, "entry_points", entry_points)
    Plugins()
    assert readings == [{}]


@pytest.mark.usefixtures("installed")
def test_a_strangers_plugin_is_found_and_named() -> None:
    plugins = Plugins()
    assert callable(plugins.load("filters", "ascii"))
    state = next(s for s in plugins.states() if s.name == "ascii")
    assert (state.distribution, state.blocked) == ("foretype-sample", "")


@pytest.mark.usefixtures("installed")
def test_a_plugin_that_does_not_import_is_blocked_and_named() -> None:
    plugins = Plugins()
    with pytest.raises(PluginError, match="does not import"):
        plugins.load("filters", "broken")
    assert "broken" not in plugins.names("filters")
    state = next(s for s in plugins.states() if s.name == "broken")
    assert "foretype_sample_that_is_not_there" in state.blocked
    with pytest.raises(PluginError, match="is blocked"):
        plugins.load("filters", "broken")


@pytest.mark.usefixtures("installed")
def test_a_name_that_two_distributions_register_is_used_by_neither() -> None:
    plugins = Plugins()
    with pytest.raises(PluginError, match="two distributions"):
        plugins.load("engines", "local")


def test_a_switched_off_plugin_is_blocked() -> None:
    plugins = Plugins(blocked=["pytorch"])
    assert "pytorch" not in plugins.names("backends")
    with pytest.raises(PluginError, match="blockedPlugins"):
        plugins.load("backends", "pytorch")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PluginError, match="did you mean 'pytorch'"):
        Plugins().load("backends", "pytroch")
