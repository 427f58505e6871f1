"""Settings: bad values keep what holds, unknown names are said, names match across the border."""

from __future__ import annotations

from dataclasses import fields

import pytest

from server.options import Options, apply_settings, camel_case, snake_case


@pytest.mark.parametrize("name", [f.name for f in fields(Options)])
def test_names_survive_the_border(name: str) -> None:
    assert snake_case(camel_case(name)) == name


@pytest.mark.parametrize("name", [f.name for f in fields(Options)])
def test_every_setting_explains_itself_and_accepts_its_default(name: str) -> None:
    declared = next(f for f in fields(Options) if f.name == name)
    assert declared.metadata["help"].endswith(".")
    default = getattr(Options(), name)
    applied, warnings = apply_settings(Options(), {camel_case(name): default})
    assert warnings == []
    assert getattr(applied, name) == default


def test_a_setting_is_applied() -> None:
    options, warnings = apply_settings(Options(), {"maxLines": 3, "languages": {"markdown": False}})
    assert warnings == []
    assert options.max_lines == 3
    assert options.languages == {"markdown": False}


def test_an_unknown_setting_names_the_nearest() -> None:
    options, warnings = apply_settings(Options(), {"debounceMS": 10, "debouncems": 10})
    assert options == Options()
    assert len(warnings) == 2
    assert "did you mean 'debounceMs'?" in warnings[1]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("debounceMs", "fast", "expected a whole number"),
        ("debounceMs", True, "expected a whole number"),
        ("debounceMs", -1, "expected a number from 0 to 5000"),
        ("temperature", float("nan"), "expected a number from 0.0 to 5.0"),
        ("multiLine", "sometimes", "expected one of auto, always, never"),
        ("enabled", "yes", "expected true or false"),
        ("filters", "suffix", "expected a list of texts"),
        ("languages", {"python": 1}, "expected names with true or false"),
        ("model", None, "expected a text"),
    ],
)
def test_a_bad_value_keeps_what_holds_and_says_so(key: str, value: object, says: str) -> None:
    before, _ = apply_settings(Options(), {"debounceMs": 77})
    after, warnings = apply_settings(before, {key: value})
    assert after == before
    assert len(warnings) == 1
    assert says in warnings[0]
    assert "keeping" in warnings[0]


def test_a_running_server_refuses_settings_that_choose_what_runs() -> None:
    options, warnings = apply_settings(Options(), {"model": "other", "maxLines": 2}, running=True)
    assert options.model == ""
    assert options.max_lines == 2
    assert warnings == ["model is read at start; restart the server to change it"]
    assert apply_settings(Options(), {"model": ""}, running=True)[1] == []


def test_an_empty_list_that_is_read_at_start_is_not_told_to_differ() -> None:
    """Each start of VS Code, which sends all settings, put a warning into its log."""
    assert apply_settings(Options(), {"blockedPlugins": []}, running=True)[1] == []
