"""One completion on the terminal: places in files, the answer on stdout, the rest on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.complete import request_at, run
from server.errors import OptionsError
from server.options import Options


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_bytes("first = 'é'\r\nsecond\r\n".encode())
    return path


@pytest.mark.parametrize(
    ("place", "prefix", "suffix"),
    [
        ("1", "first = 'é'", "\nsecond\n"),
        ("2", "first = 'é'\nsecond", "\n"),
        ("2:1", "first = 'é'\n", "second\n"),
        ("2:4", "first = 'é'\nsec", "ond\n"),
        ("1:12", "first = 'é'", "\nsecond\n"),
        ("2:99", "first = 'é'\nsecond", "\n"),
        ("3", "first = 'é'\nsecond\n", ""),
    ],
)
def test_a_place_splits_the_text(file: Path, place: str, prefix: str, suffix: str) -> None:
    request = request_at(f"{file}:{place}")
    assert (request.prefix, request.suffix, request.language) == (prefix, suffix, "python")


@pytest.mark.parametrize(
    ("place", "says"),
    [("", "expected FILE:LINE"), (":x", "expected FILE:LINE"), (":9", "there is no line 9")],
)
def test_a_wrong_place_is_said(file: Path, place: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        request_at(f"{file}{place}")


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Options(), "nowhere.py:1") == 2
    assert "can't be read" in capsys.readouterr().err


def test_a_broken_model_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Options(model="nowhere"), f"{file}:2") == 2
    assert "no bundle at" in capsys.readouterr().err


def test_the_embedded_model_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text("import numpy as n")
    assert run(Options(candidates=1), f"{file}:1") == 0
    out, err = capsys.readouterr()
    assert out.strip()  # What it says is the model's affair.
    assert "prompt tokens" in err
