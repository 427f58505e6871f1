"""The report for a bug: what runs, what is blocked, nothing private."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import doctor
from server.bundle import EMBEDDED_FOLDER, read_bundle
from server.options import Options
from server.plugins import Plugins


def test_the_report_names_model_backends_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(blocked_plugins=("pytorch",), backend="ort", device="cpu")
    assert doctor.run(options) == 0
    report = capsys.readouterr().out
    assert read_bundle(EMBEDDED_FOLDER).manifest.name in report
    assert "CPUExecutionProvider" in report
    assert "switched off by blockedPlugins" in report
    assert "backend='ort'" in report


def test_a_missing_bundle_is_said_and_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert doctor.run(Options(model=str(tmp_path / "nowhere"))) == 1
    assert "no bundle at" in capsys.readouterr().out


def test_the_report_holds_no_private_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    options = Options(model=str(tmp_path / "secret-project"), http_url="http://user:pw@127.0.0.1/")
    doctor.run(options)
    report = capsys.readouterr().out
    assert str(tmp_path) not in report
    assert "pw@" not in report
    assert "model=(set)" in report


def test_a_backend_that_raises_is_named_and_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @classmethod
        def load(cls, *_: object) -> None:
            raise ZeroDivisionError("surprise")

    plugins = Plugins(blocked=["pytorch"])
    monkeypatch.setattr(plugins, "load", lambda *_: Broken)
    probes = doctor.probe_backends(read_bundle(EMBEDDED_FOLDER), Options(), plugins)
    assert [p.problem for p in probes] == ["ZeroDivisionError: surprise"]
    state = next(s for s in plugins.states() if s.name == "ort")
    assert state.blocked == "ZeroDivisionError: surprise"
