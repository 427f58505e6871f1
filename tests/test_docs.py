"""The documents stay true: their code runs, their links lead somewhere, their settings exist."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from server.options import Options, apply_settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PLUGIN_SOURCES = {
    path.read_text(encoding="utf-8")
    for path in (ROOT / "tests" / "data" / "plugins").rglob("*")
    if path.suffix in {".py", ".toml"}
}
MODULES = {"server", "export", "training", "benchmarks"}

PICTURE_BYTES = 100_000


class Block(NamedTuple):
    """A fenced block of code: where it stands, its language and its text."""

    place: str
    language: str
    code: str


def blocks(*languages: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] in languages:
                line = text[: match.start()].count("\n") + 1
                yield Block(f"{page.relative_to(ROOT)}:{line}", match[1], match[2])


def ids(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", list(blocks("python", "toml")), ids=ids)
def test_code_in_the_documents_runs(block: Block) -> None:
    if block.code in PLUGIN_SOURCES:
        return  # installed and run by tests/e2e/test_plugins.py
    assert block.language == "python", f"{block.place}: not the text of any file"
    done = subprocess.run([sys.executable, "-c", block.code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", list(blocks("json")), ids=ids)
def test_settings_in_the_documents_exist(block: Block) -> None:
    value = json.loads(block.code)
    settings = {
        key.removeprefix("foretype."): v
        for key, v in value.items()
        if key.startswith("foretype.") or "." not in key
    }
    if set(settings) == set(value) and not {"state", "jsonrpc"} & set(value):
        assert apply_settings(Options(), settings)[1] == []


def commands() -> list[tuple[str, str]]:
    found = []
    for block in blocks("console", "bash", "sh"):
        for line in block.code.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ").split("#")[0].strip()
            words = command.split()
            if words[:2] == ["python", "-m"] and words[2] in MODULES:
                found.append((block.place, command))
    return found


@pytest.mark.parametrize(("place", "command"), commands())
def test_commands_in_the_documents_have_these_flags(place: str, command: str) -> None:
    words = shlex.split(command)[1:]
    subcommand = [w for w in words[2:3] if re.fullmatch(r"[a-z-]+", w)]
    shown = subprocess.run(
        [sys.executable, *words[:2], *subcommand, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if shown.returncode and subcommand:  # the word was an argument, not a subcommand
        shown = subprocess.run(
            [sys.executable, *words[:2], "--help"], capture_output=True, text=True, cwd=ROOT
        )
    assert shown.returncode == 0, f"{place}: {command}\n{shown.stderr}"
    for flag in (w.split("=")[0] for w in words if w.startswith("--")):
        assert flag in shown.stdout, f"{place}: {command} has no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_the_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "picture", sorted((ROOT / "docs" / "images").iterdir()), ids=lambda p: p.name
)
def test_a_picture_is_shown_by_some_page_and_is_small(picture: Path) -> None:
    assert any(f"images/{picture.name})" in page.read_text(encoding="utf-8") for page in PAGES)
    if picture.suffix == ".png":
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < PICTURE_BYTES


def test_the_settings_page_is_what_the_settings_say() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "settings_table.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"]()


def test_the_reliability_page_is_made_from_results() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "reliability_table.py"))
    page = script["page"]()
    assert script["PAGE"].read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", ["SECURITY.md", "docs/reliability.md"])
def test_the_tests_that_a_page_names_exist(name: str) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / name).read_text(encoding="utf-8"))
    assert named
    for test in named:
        assert f"def {test}(" in tests, test
