"""Which setting wins."""

from __future__ import annotations

import pytest

from server.lsp.configuration import Configuration, Features, section
from server.options import Options


def test_the_command_line_wins_over_the_editor_and_the_editor_over_the_start() -> None:
    configuration = Configuration({"max_lines": 2})
    assert configuration.start({"maxLines": 3, "debounceMs": 10, "deadlineMs": 500}) == []
    assert configuration.reload({"maxLines": 4, "debounceMs": 20}) == []
    options = configuration.options
    assert (options.max_lines, options.debounce_ms, options.deadline_ms) == (2, 20, 500)


def test_a_setting_that_is_taken_back_falls_to_what_held_at_the_start() -> None:
    configuration = Configuration({})
    configuration.start({"maxLines": 3})
    configuration.reload({"maxLines": 4})
    configuration.reload(None)
    assert configuration.options.max_lines == 3


def test_what_runs_is_chosen_at_the_start_only() -> None:
    configuration = Configuration({})
    assert configuration.start({"model": "mine"}) == []
    (warning,) = configuration.reload({"model": "theirs"})
    assert "model" in warning
    assert configuration.options.model == "mine"


def test_a_warning_is_given_once() -> None:
    configuration = Configuration({})
    assert len(configuration.reload({"maxLine": 3})) == 1
    assert configuration.reload({"maxLine": 3}) == []


def test_the_editors_own_keys_are_no_settings() -> None:
    keys = {"client": {}, "trace": {}, "streaming": True, "status": True, "token": "t"}
    assert Configuration({}).start(keys) == []


def test_what_is_no_object_is_told_of() -> None:
    assert len(Configuration({}).start([1])) == 1
    assert len(Configuration({}).reload("all")) == 1


def test_only_true_opts_in() -> None:
    assert Features.of({"streaming": True, "status": True}) == Features(True, True)
    assert Features.of({"streaming": "yes", "status": 1}) == Features()
    assert Features.of(None) == Features()


def test_our_section_is_found() -> None:
    assert section({"foretype": {"a": 1}, "other": 2}) == {"a": 1}
    assert section({"other": 2}) is None
    assert section(None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "/tmp/evil"),
        ("engine", "evil"),
        ("backend", "evil"),
        ("device", "cuda"),
        ("httpUrl", "http://evil.example"),
        ("httpModel", "evil"),
        ("threads", 1),
        ("memoryBytes", 1 << 40),
        ("blockedPlugins", ["ort"]),
        ("logFile", "/tmp/evil.log"),
        ("logLevel", "debug"),
        ("tcp", "0.0.0.0:80"),
        ("token", "guess"),
    ],
)
def test_a_workspaces_settings_choose_nothing_that_runs(name: str, value: object) -> None:
    """They come after the start, mixed with the user's own; a log or an address is no setting."""
    configuration = Configuration({})
    configuration.start({})
    warnings = configuration.reload({name: value})
    assert configuration.options == Options()
    assert warnings or name == "token"
