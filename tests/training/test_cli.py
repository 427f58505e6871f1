"""A whole life from the command line, on small parts of the standard library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.checkpoint import latest_step, load_model
from training.cli import main
from training.config import CONFIG_FOLDER
from training.likelihood import score_text
from training.lr_range import RangePoint, steepest_factor

TINY = ["--config", str(CONFIG_FOLDER / "tiny.toml"), "--work"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with corpus, tokens and a run of the tiny experiment."""
    folder = tmp_path_factory.mktemp("life")
    assert main(["corpus", *TINY, str(folder), "--processes", "1"]) == 0
    assert main(["tokenizer", *TINY, str(folder)]) == 0
    assert main(["train", *TINY, str(folder)]) == 0
    return folder


def test_training_from_the_command_line_lowers_the_loss(work: Path) -> None:
    rows = [json.loads(r) for r in (work / "runs/tiny/log.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in rows if "loss" in r]
    assert losses[-1] < losses[0] - 0.5
    assert rows[-1]["step"] == 60


def test_the_life_is_deterministic(work: Path, tmp_path: Path) -> None:
    for command in ("corpus", "tokenizer", "train"):
        assert main([command, *TINY, str(tmp_path)]) == 0
    ours, theirs = (latest_step(f / "runs/tiny") for f in (work, tmp_path))
    assert ours is not None
    assert theirs is not None
    for name in ("model.safetensors", "tokenizer.json", "foretype.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_text_is_generated(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(work / "runs/tiny")
    arguments = ["--prompt", "def ", "--length", "5", "--sequences", "2", "--temperature", "0.8"]
    assert main(["generate", run, *arguments]) == 0
    first = capsys.readouterr().out
    assert first.count("def ") >= 2
    assert main(["generate", run, *arguments]) == 0
    assert capsys.readouterr().out == first
    assert main(["generate", run, "--prompt", "x", "--suffix", "\n", "--top-p", "2"]) == 1
    assert "top-p is 2.0" in capsys.readouterr().err


def test_results_become_tables_and_a_card(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(work / "runs/tiny")
    small = ["--files", "2", "--points", "12", "--ngram-tokens", "20000"]
    results = tmp_path / "dev.json"
    assert (
        main(["evaluate", f"tiny={run}", "--work", str(work), *small, "--output", str(results)])
        == 0
    )
    out = capsys.readouterr().out
    for name in ("tiny", "tiny, spm", "5-gram", "line recall", "n-gram copy"):
        assert f"| {name} |" in out
    card = tmp_path / "release"
    measured = {"ksr": 0.25, "rocc": 0.2, "accepted_of_shown": 0.5, "shown_per_line": 1.5}
    replayed = {
        "kind": "replay",
        "command": "python -m benchmarks replay",
        "settings": {"split": "dev"},
        "raw": {
            "typist": {"rule": "full", "key_ms": 200.0},
            "latency_ms": 50.0,
            "systems": {
                "served": {
                    key: {"value": value, "low": value, "high": value}
                    for key, value in {**measured, "quiet_rate": 0.9, "known_share": 0.4}.items()
                }
            },
        },
    }
    (tmp_path / "replay.json").write_text(json.dumps(replayed), encoding="utf-8")
    arguments = ["release", run, "--output", str(card), "--work", str(work)]
    arguments += ["--results", str(results), "--usefulness", str(tmp_path / "replay.json")]
    assert main(arguments) == 0
    text = (card / "README.md").read_text()
    assert "Packages never trained on (dev)" in text
    assert "| served | 0.250 (0.250-0.250) |" in text
    assert "![loss, bits per byte and pace over tokens](learning.png)" in text
    assert (card / "learning.png").is_file()
    assert "BLEU|nrefs:1" in text
    assert (card / "README.md").is_file()
    assert json.loads((card / "foretype.json").read_text())["fim"]["order"] == "spm"
    model, _ = load_model(card)
    assert model.training is False
    assert main(["perplexity", str(card), str(work / "corpus" / "files.jsonl")]) == 0


def test_curves_are_drawn(work: Path, tmp_path: Path) -> None:
    assert main(["plot", str(work / "runs/tiny"), "--output", str(tmp_path / "run.png")]) == 0
    assert (
        main(
            ["lr-range", *TINY, str(work), "--steps", "20", "--output", str(tmp_path / "range.png")]
        )
        == 0
    )
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "range.png").read_bytes()[:4] == b"\x89PNG"


def test_an_archive_is_half_the_size_and_can_be_resumed(work: Path, tmp_path: Path) -> None:
    run, small = work / "runs/tiny", tmp_path / "small"
    assert main(["archive", str(run), "--output", str(small)]) == 0
    whole, half = (latest_step(f) for f in (run, small))
    assert whole is not None
    assert half is not None
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (half / name).stat().st_size < 0.7 * (whole / name).stat().st_size
    branch = ["--cooldown-from", str(small), "--steps", "3", "--output", str(tmp_path / "cool")]
    assert main(["train", *TINY, str(work), *branch]) == 0


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, str(tmp_path)]) == 1
    assert "run the tokenizer command first" in capsys.readouterr().err
    assert main(["tokenizer", *TINY, str(tmp_path)]) == 1
    assert "run the corpus command first" in capsys.readouterr().err
    assert main(["generate", str(tmp_path)]) == 1
    assert main(["plot", str(tmp_path), "--output", str(tmp_path / "x.png")]) == 1
    assert main(["corpus", *TINY, str(tmp_path), "--place", "oops"]) == 1
    assert "NAME=FOLDER is expected" in capsys.readouterr().err


def test_the_steepest_place_lies_before_the_minimum() -> None:
    losses = [5.0, 4.9, 4.0, 3.8, 3.9, 2.0]
    curve = [5.0, 4.9, 4.0, 3.8, 3.9, 6.0]
    points = [
        RangePoint(factor=10.0**i, loss=a, smoothed=b)
        for i, (a, b) in enumerate(zip(losses, curve, strict=True))
    ]
    assert steepest_factor(points) == 10.0


def test_a_network_that_learned_nothing_stands_in_tables(work: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "untrained")
    assert main(["init", *TINY, str(work), "--output", folder]) == 0
    untrained, tokenizer = load_model(Path(folder))
    trained, _ = load_model(latest_step(work / "runs/tiny") or work)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (untrained, trained)]
    assert shapes[0] == shapes[1]
    text = "def area(radius):\n    return 3.14 * radius * radius\n"
    scores = [score_text(model, tokenizer, text).bits_per_byte for model in (untrained, trained)]
    assert scores[1] < scores[0]
