"""Quality and replay: the embedded model on files that are made for the test, and fixed counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.usefulness import SYSTEM, Held, choose_regions, quality, replay_all
from server.exit_codes import ExitCode
from server.options import Options
from training.checkpoint import foretype_facts, save_model
from training.config import ModelConfig
from training.model import build_model
from training.replay import Typist
from training.served import serving
from training.tokenizer import learn_tokenizer, special_ids

FUNCTION = '''
def {name}_area(width, height):
    """Return the area of a {name}."""
    if width < 0 or height < 0:
        raise ValueError("a {name} has no negative side")
    return width * height

'''
NAMES = ("room", "garden", "table", "window", "board", "field", "tile", "page", "card", "plot")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a corpus of two held-out packages with a file each."""
    rows = [
        {"package": package, "path": f"{package}/shapes.py", "text": text}
        for package in ("alpha", "beta")
        for text in ["".join(FUNCTION.format(name=f"{package}_{name}") for name in NAMES)]
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "dev.jsonl").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_the_same_seed_asks_and_answers_the_same(corpus: Path) -> None:
    held = Held(corpus=corpus, n_points=8)
    files = held.files()
    points = held.points(files)
    with serving(Options(threads=1)) as served:
        once = quality({SYSTEM: served}, files, points, lambda _: None)
        again = quality({SYSTEM: served}, files, points, lambda _: None)
    for system in (once, again):
        for figures in system["lines"].values():
            del figures["seconds_per_line"]
    # Confidence may differ in its last digits: what a KV cache held was computed in other chunks.
    assert once["lines"] == again["lines"]
    assert set(once["lines"]) == {SYSTEM, "none", "line recall", "n-gram copy"}
    assert once["n_points"] == len(points) == 8
    assert once["lines"][SYSTEM]["shown"]["value"] > 0.5


def test_a_typist_is_served_and_the_text_of_others_is_forgotten(corpus: Path) -> None:
    regions = choose_regions(Held(corpus=corpus).files(), seed=1)
    assert [region.document for region in regions] == [
        "alpha/alpha/shapes.py",
        "beta/beta/shapes.py",
    ]
    short = [
        type(r)(document=r.document, before=r.before, lines=r.lines[:4], after=r.after)
        for r in regions
    ]
    with serving(Options(threads=1)) as served:
        systems = replay_all({SYSTEM: served}, short, Typist(), 0.0, lambda _: None)
    for figures in systems.values():
        assert figures["n_files"] == 2
        assert figures["ksr"]["low"] <= figures["ksr"]["value"] <= figures["ksr"]["high"]
    assert systems[SYSTEM]["known_share"]["value"] > 0.2  # Typing along is answered by the cache.
    assert systems["none"]["ksr"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_regions_are_whole_lines_of_the_file(corpus: Path) -> None:
    file, _ = Held(corpus=corpus).files()
    region, _ = choose_regions(Held(corpus=corpus).files(), seed=1)
    typed = "".join(line + "\n" for line in region.lines)
    assert region.before + typed + region.after == file.text


def test_commands_write_results_and_print_tables(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--corpus", str(corpus), "--files", "1", "--points", "4", "--threads", "1"]
    output, plot = tmp_path / "out/quality.json", tmp_path / "out/curve.png"
    arguments = ["quality", *common, "--output", str(output), "--plot", str(plot)]
    arguments += ["--memory", "off"]
    assert cli.main([*arguments, "--set", "minConfidence=0.99"]) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["settings"]["minConfidence"] == 0.99
    assert results["raw"]["lines"][SYSTEM]["shown"]["value"] < 1
    assert plot.is_file()
    assert "| line recall |" in (shown := capsys.readouterr().out)
    assert "| memory: off |" in shown


def test_recurrent_baselines_stand_beside_the_model_over_several_latencies(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = corpus.joinpath("dev.jsonl").read_text(encoding="utf-8")
    tokenizer = learn_tokenizer([text], 300)
    sizes = ModelConfig(kind="lstm", n_layer=1, n_embd=16, n_head=1)
    network = build_model(sizes, tokenizer.get_vocab_size(), special_ids(tokenizer).end, seed=3)
    save_model(tmp_path / "lstm", network, tokenizer, foretype_facts("Apache-2.0"))
    output, plot = tmp_path / "replay.json", tmp_path / "latencies.png"
    arguments = ["replay", "--corpus", str(corpus), "--files", "1", "--threads", "1"]
    arguments += ["--set", "maxNewTokens=8", "--latency-ms", "0,300", "--without", "healing"]
    arguments += ["--recurrent", f"LSTM={tmp_path / 'lstm'}"]
    arguments += ["--output", str(output), "--plot", str(plot)]
    assert cli.main(arguments) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["settings"]["without healing"] is True
    assert [one["latency_ms"] for one in results["raw"]["by_latency"]] == [0.0, 300.0]
    assert results["raw"]["systems"] == results["raw"]["by_latency"][0]["systems"]
    assert {SYSTEM, "LSTM", "none"} < set(results["raw"]["systems"])
    assert [len(one["sha256"]) for one in results["raw"]["files"]] == [64, 64]
    assert plot.is_file()
    assert "| LSTM |" in capsys.readouterr().out


def test_what_is_left_out_changes_what_is_measured(corpus: Path) -> None:
    (file, _) = Held(corpus=corpus).files()
    prefix = file.text[: file.text.index("height):") + 3]
    with serving(Options(threads=1), ["healing"]) as unhealed, serving(Options(threads=1)) as whole:
        answers = [
            served.complete("shapes.py", prefix, "")[0].candidates[:1]
            for served in (whole, unhealed)
        ]
    assert [c.text for c in answers[0]] != [c.text for c in answers[1]]
    with serving(Options(threads=1), ["cache"]) as forgetful:
        sources = {forgetful.complete("shapes.py", prefix, "")[0].source for _ in range(2)}
    assert "cache" not in sources


@pytest.mark.parametrize("asked", [["--latency-ms", "0,soon"], ["--recurrent", "nothing"]])
def test_what_cannot_be_measured_is_refused(
    corpus: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", "--corpus", str(corpus), *asked]) == ExitCode.MISUSED
    assert asked[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("minConfidence", "no JSON"), ("minConfidence=x", "no JSON"), ("nonsense=1", "unknown")],
)
def test_settings_without_a_meaning_are_refused(
    corpus: Path, setting: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["quality", "--corpus", str(corpus), "--set", setting]) == ExitCode.MISUSED
    assert reason in capsys.readouterr().err
