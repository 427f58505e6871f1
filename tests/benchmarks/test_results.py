"""Results files: written, read, compared, shown, drawn; goals beside what was reached."""

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.figures import as_json, figure, ratio
from benchmarks.goals import LATENCY_GOALS, check_goals
from benchmarks.machine import busy_note
from benchmarks.report import draw, plain, print_results
from benchmarks.results import Recorder, compare, differences, read_results, write_results


def results(*decode_ms: float, **settings: Any) -> dict[str, Any]:
    """A run of one backend, made up."""
    recorder = Recorder(kind="throughput", command="test", seed=0, settings=settings)
    recorder.figures.append(figure("ort", "decode", "ms/token", decode_ms))
    return recorder.finish()


def test_file_says_all_that_makes_a_figure_count(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(results(1.0, 2.0), path)
    read = read_results(path)
    assert {"command", "commit", "machine", "versions", "seed", "settings", "load_average"} <= set(
        read
    )
    [one] = read["figures"]
    assert one["n"] == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 0}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match="no results file"):
        read_results(path)


def test_comparison_tells_noise_from_change() -> None:
    [faster] = compare(results(10.0, 12.0), results(4.0, 6.0))
    assert faster.ratio == pytest.approx(5 / 11, rel=1e-3)
    assert faster.is_clear
    [noise] = compare(results(10.0, 12.0), results(9.0, 11.0))
    assert not noise.is_clear


def test_comparison_names_what_else_differs() -> None:
    told = differences(results(1.0, threads=1), results(1.0, threads=2))
    assert told == ["settings: threads was 1, is 2"]


def test_busy_machine_is_named() -> None:
    assert busy_note({"before": 1.0, "after": 2.0}, 2) == ""
    assert "3.5" in busy_note({"before": 3.5, "after": 2.0}, 2)


def test_goals_are_met_missed_or_not_measured() -> None:
    measured = [
        figure("server", "flicker", "", [0.0]),
        figure("server", "known_answer_server", "ms", [1.0, 1.0, 50.0]),
        ratio("start_to_initialized", "server", [3.0], "a bare pygls server", [2.0]),
    ]
    checked = check_goals(LATENCY_GOALS, measured, "embedded")
    by_goal = {one["goal"].split(":")[0]: one["is_met"] for one in checked}
    assert by_goal["flicker"] is True
    assert by_goal["typed along, asked again, deleted back, server side"] is False
    assert by_goal["`initialize` answered"] is False
    assert by_goal["cancellation to idle"] is None


def test_goals_of_another_model_are_left_out() -> None:
    texts = [one["goal"] for one in check_goals(LATENCY_GOALS, [], "embedded")]
    assert not any("124M" in text for text in texts)


def test_report_marks_what_was_missed() -> None:
    made = results(1.0)
    made["goals"] = [
        {"goal": "quick", "reached": "9", "is_met": False},
        {"goal": "small", "reached": "", "is_met": None},
    ]
    page = StringIO()
    print_results(Console(file=page, width=120), made)
    assert "MISSED" in page.getvalue()
    assert "not measured" in page.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234, "1234")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert plain(value) == text


def test_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(results(1.0, 2.0), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchmarkError, match=r"foretype\[training\]"):
        draw(results(1.0), tmp_path / "plot.png")


def test_figure_without_a_unit_is_compared() -> None:
    made = results(1.0)
    made["figures"] = as_json([figure("server", "share", "", [0.5])])
    [one] = compare(made, made)
    assert (one.unit, one.ratio) == ("", 1.0)
