"""What the soak calls wrong, and how it tells growth."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.client import Pending
from benchmarks.errors import BenchmarkError
from benchmarks.soak import SLACK_THREADS, Sample, grown, wrongs
from benchmarks.soak_editor import Editor, covers, position_of

GOOD = dict.fromkeys(
    (
        "unanswered",
        "answered_twice",
        "lost_edits",
        "old_answers",
        "flicker",
        "errors",
        "tracebacks",
        "orphans",
        "closed_kept",
        "exit_code",
    ),
    0,
)
STILL = {"resident_share": 0.0, "threads": 0.0, "files": 0.0, "tasks": 0.0}


def sample(at_s: float, resident_mb: float, **more: int) -> Sample:
    fields = {"threads": 5, "files": 9, "tasks": 3} | more
    return Sample(at_s=at_s, n_requests=int(100 * at_s), resident_mb=resident_mb, **fields)


def test_memory_of_the_first_minute_is_no_growth() -> None:
    samples = [sample(at_s, 50 + min(at_s, 60)) for at_s in range(0, 600, 5)]
    assert grown(samples)["resident_share"] == 0


def test_growth_is_told_as_a_share_and_per_thousand_requests() -> None:
    samples = [sample(at_s, 100 + at_s / 10) for at_s in range(0, 601, 10)]
    growth = grown(samples)
    assert growth["resident_share"] == pytest.approx(0.42, abs=0.05)
    assert growth["resident_kb_per_1000"] == pytest.approx(1024 * 0.8, rel=0.05)
    assert wrongs(GOOD, growth) == [
        f"memory grew by {growth['resident_share']:.1%}, the bound is 5%"
    ]


def test_threads_that_are_not_given_back_are_growth() -> None:
    """Whatever the number of cores: the pools that libraries make once follow it."""
    per_minute = SLACK_THREADS
    samples = [
        sample(at_s, 100, threads=5 + per_minute * (at_s // 60)) for at_s in range(0, 600, 5)
    ]
    assert wrongs(GOOD, grown(samples)) == [f"threads grew by {8 * per_minute}"]


def test_a_soak_of_one_look_tells_nothing() -> None:
    with pytest.raises(BenchmarkError, match="too short"):
        grown([sample(1, 100)])


@pytest.mark.parametrize("name", GOOD)
def test_whatever_must_be_zero_is_named(name: str) -> None:
    assert wrongs(GOOD | {name: 2}, STILL) == [f"{name}: 2, must be 0"]
    assert wrongs(GOOD, STILL) == []


def test_positions_count_utf16_units() -> None:
    text = "a\r\n\U0001f40db"
    assert position_of(text, len(text)) == {"line": 1, "character": 3}
    assert position_of(text, 1) == {"line": 0, "character": 1}


def test_a_range_that_does_not_hold_the_cursor_is_told() -> None:
    place = {"line": 1, "character": 4}
    here = {"start": {"line": 1, "character": 2}, "end": place}
    assert covers(here, place)
    assert not covers(here, {"line": 1, "character": 5})
    assert not covers(here, {"line": 0, "character": 3})


class Silent:
    """A client whose server answers nothing but yes."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def tell(self, method: str, params: Any) -> None:
        """Nobody listens."""

    def send(self, method: str, params: Any, token: str | None = None) -> Pending:
        pending = Pending(request_id=0, sent_s=0.0, result={"items": []})
        pending.is_answered.set()
        return pending

    def cancel(self, pending: Pending) -> None:
        """Too late."""

    def wait(self, pending: Pending) -> None:
        """All is answered."""


def test_no_line_end_of_a_document_is_ever_half_a_one() -> None:
    """A cut between CR and LF made a line for the server that the editor's positions did not
    count: its own edits went astray, and the soak called them lost.
    """
    editor = Editor(Silent(), seed=3)  # type: ignore[arg-type]
    screen = editor._screen
    screen.line_end = "\r\n"
    kept = set()
    for _ in range(20):
        screen.text = "x" * 499 + "\r\n" + "y" * 99
        editor._replace_all()
        kept.add(len(screen.text))
        assert screen.text.count("\r") == screen.text.count("\r\n")
    assert 499 in kept
