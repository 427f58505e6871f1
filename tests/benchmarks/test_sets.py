"""The whole set: every command of it can be read, and every goal is said something about."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main, make_parser
from benchmarks.commands.sets import MEASUREMENTS, arguments_of, choose, show_goals
from benchmarks.errors import BenchmarkError
from benchmarks.goals import LATENCY_GOALS, check_goals
from benchmarks.results import FORMAT_VERSION


@pytest.mark.parametrize("one", MEASUREMENTS, ids=lambda one: one.name)
def test_measurement_is_a_command_that_there_is(one: object) -> None:
    (found,) = [each for each in MEASUREMENTS if each is one]
    arguments = make_parser().parse_args(arguments_of(found, Path("folder")))
    assert arguments.output == Path("folder") / f"{found.name}.json"
    assert arguments.rounds == found.n_rounds
    assert (arguments.random_124m == "int8") == found.name.endswith("-124m")


def test_some_of_the_set_can_be_chosen() -> None:
    assert [one.name for one in choose("peers-124m,latency-embedded")] == [
        "latency-embedded",
        "peers-124m",
    ]
    assert choose("") == list(MEASUREMENTS)
    with pytest.raises(BenchmarkError, match="no such among throughput-embedded"):
        choose("such")


def test_goal_that_was_not_measured_says_no_more_than_that() -> None:
    checked = check_goals(LATENCY_GOALS, [], "any")
    assert {(one["reached"], one["is_met"]) for one in checked} == {("", None)}


def test_unknown_name_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    assert main(["all", "--only", "such", "--output-folder", str(tmp_path)]) == 2


def test_goals_of_all_files_are_shown_and_those_that_nothing_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = {"goal": "quick: < 1 ms", "reached": "2 ms", "is_met": False}
    results = {"format_version": FORMAT_VERSION, "goals": [goal]}
    (tmp_path / "a.json").write_text(json.dumps(results), encoding="utf-8")
    show_goals(tmp_path, ["a", "absent"])
    shown = capsys.readouterr().out
    assert "MISSED" in shown
    assert "GPU" in shown
    assert "not measured" in shown
