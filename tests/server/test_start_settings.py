"""Every setting that is read at start changes what runs, from an editor's name for it on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from server.bundle import EMBEDDED_FOLDER
from server.completion.engine import CancelToken, CompletionEngine, WorkspaceFile
from server.completion.engine_source import EngineSource
from server.errors import CompletionServerError
from server.options import Options, apply_settings, camel_case
from server.plugins import Plugins

TEXT = "def area(radius):\n    return radius * radius\n" * 20
ON_CPU = {"device": "cpu", "threads": 1}
HTTP = {"engine": "http", "httpUrl": "http://127.0.0.1:9"}
Seen = Callable[[CompletionEngine], Any]


def detail(name: str) -> Seen:
    return lambda engine: engine.info.details.get(name)


def learned(engine: CompletionEngine) -> int:
    engine.learn([WorkspaceFile(path="a.py", text=TEXT)], CancelToken())
    return engine.memory.n_tokens


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a copy of the embedded bundle under another name."""
    folder = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(EMBEDDED_FOLDER, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "name": "other"}))
    return str(folder)


CHANGES: dict[str, tuple[dict[str, Any], Any, Seen]] = {
    "model": (ON_CPU, "other_bundle", lambda engine: engine.info.model),
    "engine": (HTTP | {"engine": "local"} | ON_CPU, "http", lambda engine: engine.info.engine),
    "backend": (ON_CPU, "pytorch", lambda engine: engine.info.backend),
    "device": (
        {"threads": 1, "backend": "ort"},
        "cpu",
        lambda engine: (engine.info.device, engine.info.details.get("skipped")),
    ),
    "threads": (ON_CPU, 2, detail("threads")),
    "spinning": (ON_CPU, True, detail("spinning")),
    "http_url": (HTTP, "http://127.0.0.1:10", detail("server")),
    "http_model": (HTTP, "big", lambda engine: engine.info.model),
    "memory_bytes": (ON_CPU, 0, learned),
    "blocked_plugins": (ON_CPU, ["ort"], lambda engine: engine.info.backend),
}


def engine_of(settings: dict[str, Any]) -> CompletionEngine:
    options, warnings = apply_settings(Options(), settings)
    assert not warnings
    return EngineSource(options, Plugins(options.blocked_plugins)).load()


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_what_runs(name: str, request: pytest.FixtureRequest) -> None:
    settings, value, seen = CHANGES[name]
    if value == "other_bundle":
        value = request.getfixturevalue(value)
    outcomes = []
    for chosen in (settings, settings | {camel_case(name): value}):
        engine = engine_of(chosen)
        outcomes.append(seen(engine))
        engine.close()
    assert outcomes[0] != outcomes[1]


def test_every_setting_that_is_read_at_start_is_here() -> None:
    assert {f.name for f in fields(Options) if f.metadata["at_start"]} == CHANGES.keys()


def test_a_blocked_engine_is_not_loaded() -> None:
    with pytest.raises(CompletionServerError, match="local"):
        engine_of({"blockedPlugins": ["local"]})


def test_a_folder_without_a_model_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(CompletionServerError, match="nowhere"):
        engine_of({"model": str(tmp_path / "nowhere")})
