"""The report for a bug: what runs, what is blocked, nothing private."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import doctor
from server.bundle import EMBEDDED_FOLDER, read_bundle
from server.completion.engines.local_memory import LocalMemory
from server.completion.workspace.survey import survey
from server.options import Options
from server.plugins import Plugins


def test_the_report_names_model_backends_and_plugins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = Options(blocked_plugins=("pytorch",), backend="ort", device="cpu")
    assert doctor.run(options, tmp_path) == 0
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
    doctor.run(options, tmp_path)
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


def test_the_report_says_how_much_of_the_folder_would_be_learned(tmp_path: Path) -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    for name in ("a.py", "b.py", "ignored.py", "secrets.py"):
        (tmp_path / name).write_text("x = 1\n" * 50)
    said = doctor.survey_workspace(bundle, Options(), tmp_path)
    assert said.startswith("2 files, ")
    assert "more" not in said
    off = doctor.survey_workspace(bundle, Options(memory="document"), tmp_path)
    assert off == "nothing of the workspace is read"


def test_a_survey_ends_when_its_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    memory = LocalMemory.of(read_bundle(EMBEDDED_FOLDER), 1_000_000)
    seen = survey(tmp_path, Options(), memory, lambda: memory.info, patience_s=0.0)
    assert not seen.is_whole
    assert seen.memory.n_files == 0
