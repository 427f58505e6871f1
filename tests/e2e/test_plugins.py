"""Third-party plugins, each installed from a small package, serve through a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "data" / "plugins"
PLAIN = ("--filters", "blank")
"""What these engines say repeats the lines above, which the usual filters would cut."""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the four packages and a broken one into a folder of their own, as pip would."""
    folder = tmp_path_factory.mktemp("plugins")
    copies = tmp_path_factory.mktemp("sources")  # a build leaves its own folders behind
    shutil.copytree(PACKAGES, copies, dirs_exist_ok=True)
    sources = [str(path) for path in sorted(copies.iterdir())]
    command = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, *command, *sources], check=True, capture_output=True)
    info = folder / "foretype_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foretype-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[foretype.filters]\nbroken = foretype_missing:cut\n")
    return {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}


def foretype(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_doctor_shows_every_plugin_and_blocks_the_broken_one(environment: dict[str, str]) -> None:
    done = foretype(environment, "doctor")
    assert done.returncode == 0, done.stderr
    for name in ("ascii", "imports", "recall", "copy"):
        assert f"| {name} " in done.stdout.replace("  ", " "), done.stdout
    assert "foretype-broken" in done.stdout


def test_a_third_party_engine_completes(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("connection = open_connection(host, port)\nconn\n")
    done = foretype(environment, "--engine", "recall", *PLAIN, "complete", f"{file}:2")
    assert (done.returncode, done.stdout) == (0, "ection = open_connection(host, port)\n"), (
        done.stderr
    )


def test_a_third_party_backend_runs_under_the_local_engine(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "a.py"
    file.write_text("alpha = beta.gamma\nalpha = beta.")
    done = foretype(environment, "--backend", "copy", *PLAIN, "complete", f"{file}:2")
    assert (done.returncode, done.stdout) == (0, "gamma\n"), done.stderr


def test_a_third_party_filter_cuts(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("name = 'Zoë Ångström'\nname\n", encoding="utf-8")
    whole = foretype(environment, "--engine", "recall", *PLAIN, "complete", f"{file}:2")
    assert whole.stdout == " = 'Zoë Ångström'\n", whole.stderr
    cut = foretype(environment, "--engine", "recall", "--filters", "ascii", "complete", f"{file}:2")
    assert cut.stdout == " = 'Zo\n", cut.stderr


def test_a_third_party_context_source_stands_in_front_of_the_prompt(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "a.py"
    lines = [f"value_{i} = {i}" for i in range(400)]  # longer than the model's window
    file.write_text("import averylongmodulename\n" + "\n".join(lines) + "\nimport averylong")
    arguments = ("--backend", "copy", *PLAIN, "complete", f"{file}:402")
    without = foretype(environment, *arguments)
    assert "averylongmodulename" not in "averylong" + without.stdout
    found = foretype(environment, "--context-sources", "imports", *arguments)
    assert ("averylong" + found.stdout).startswith("averylongmodulename"), found.stderr


def test_a_broken_filter_does_not_stop_completions(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "a.py"
    file.write_text("first = 1\nfir\n")
    done = foretype(
        environment, "--engine", "recall", "--filters", "broken", "complete", f"{file}:2"
    )
    assert (done.returncode, done.stdout) == (0, "st = 1\n"), done.stderr
    assert "broken" in done.stderr
