"""The memory of the workspace: fitted, and what it adds to a network that knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from server.bundle import MEMORY_FILE
from server.decoding.memory.coefficients import Coefficients, read_coefficients
from server.decoding.memory.mixture import count_votes, memory_weight, mix
from training.ablation import VARIANTS, ablate
from training.calibrate import calibrate, fit, fitted_nats, observe
from training.checkpoint import foretype_facts, save_model
from training.cli import main
from training.config import ModelConfig
from training.errors import CorpusError
from training.evaluate import load_named
from training.likelihood import score_text
from training.model import build_model
from training.workspace import WorkspaceProtocol, recollect, workspace_files

FUNCTION = """def {0}_of(items, default=None):
    for item in items:
        if item.name == "{0}":
            return item.value
    return default


"""
WORDS = ("size", "shape", "color", "weight", "owner", "place")
PROTOCOL = WorkspaceProtocol(files_per_package=2, chars=(100, 4000), scored_chars=400, open_files=1)


def rows() -> list[dict[str, str]]:
    return [
        {
            "package": package,
            "path": f"{package}/{word}.py",
            "text": f"# {word}\n" + "".join(FUNCTION.format(f"{word}_{n}") for n in range(4)),
        }
        for package in ("one", "two")
        for word in WORDS
    ]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=128), 320, 0, 1).eval()


def test_the_memory_makes_repeated_code_likelier(model: nn.Module, tokenizer: Tokenizer) -> None:
    files = workspace_files(rows(), PROTOCOL)
    recollections = recollect(model, tokenizer, rows(), files, PROTOCOL)
    scores = ablate(recollections, Coefficients(), len(files))
    bits = [np.mean([s.bits_per_byte for s in scores[name]]) for name in VARIANTS]
    assert bits[0] > bits[1] > bits[2]
    right = [sum(s.n_right for s in scores[name]) for name in VARIANTS]
    assert right[0] < right[1] < right[2]


def test_the_network_alone_scores_as_ever(model: nn.Module, tokenizer: Tokenizer) -> None:
    files = workspace_files(rows(), PROTOCOL)
    recollections = recollect(model, tokenizer, rows(), files, PROTOCOL)
    alone = ablate(recollections, Coefficients(), len(files))["network"]
    for file, score in zip(files, alone, strict=True):
        expected = score_text(model, tokenizer, file.text[: PROTOCOL.scored_chars])
        assert score.nats == pytest.approx(expected.nats, rel=1e-4)
        assert (score.n_right, score.n_bytes) == (expected.n_right, expected.n_bytes)


def test_a_file_that_is_written_anew_is_no_part_of_the_workspace(
    model: nn.Module, tokenizer: Tokenizer
) -> None:
    files = workspace_files(rows(), PROTOCOL)
    alone = [row for row in rows() if row["path"] in {file.path for file in files}]
    for each in recollect(model, tokenizer, alone, files, PROTOCOL):
        assert (each.places.nearness == 0).all()


def test_what_is_fitted_is_what_the_server_mixes(model: nn.Module, tokenizer: Tokenizer) -> None:
    """The fit's own formula, against the server's, token by token; of equal votes either may be
    first.
    """
    files = workspace_files(rows(), PROTOCOL)
    found = [
        each
        for each in recollect(model, tokenizer, rows(), files, PROTOCOL)
        if each.places.n_matches
    ]
    coefficients = Coefficients()
    served = []
    for each in found:
        votes = count_votes(each.places, coefficients)
        weight = memory_weight(votes, each.log_probs, coefficients)
        served.append(-mix(each.log_probs, votes, weight)[each.truth])
    assert fitted_nats(observe(found), coefficients).numpy() == pytest.approx(
        np.array(served), rel=0.02, abs=0.02
    )


def test_fitting_makes_the_mixture_likelier(model: nn.Module, tokenizer: Tokenizer) -> None:
    files = workspace_files(rows(), PROTOCOL)
    seen = observe(recollect(model, tokenizer, rows(), files, PROTOCOL))
    before = fitted_nats(seen, Coefficients()).mean()
    after = fitted_nats(seen, fit(seen)).mean()
    assert after < before
    assert torch.isfinite(after)


def test_one_package_is_not_enough(model: nn.Module, tokenizer: Tokenizer) -> None:
    own = [row for row in rows() if row["package"] == "one"]
    with pytest.raises(CorpusError, match="two packages"):
        calibrate(model, tokenizer, own, PROTOCOL)


def write_split(corpus: Path, split: str) -> None:
    corpus.mkdir(exist_ok=True)
    padded = [row | {"text": row["text"] * 4} for row in rows()]
    text = "".join(json.dumps(row) + "\n" for row in padded)
    (corpus / f"{split}.jsonl").write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_calibrate_and_evaluate_from_the_command_line(
    model: nn.Module, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "checkpoint"
    save_model(checkpoint, model, tokenizer, foretype_facts("MIT"))
    write_split(tmp_path / "corpus", "dev")

    arguments = ["calibrate", str(checkpoint), "--work", str(tmp_path), "--files", "1"]
    assert main(arguments) == 0

    told = json.loads(capsys.readouterr().out)["bits_per_byte"]
    assert told["mixture"] < told["network"]
    fitted = read_coefficients((checkpoint / MEMORY_FILE).read_text(encoding="utf-8"))
    assert load_named("tiny", checkpoint).coefficients == fitted

    arguments = ["evaluate", f"tiny={checkpoint}", "--work", str(tmp_path), "--memory"]
    assert main([*arguments, "--files", "1", "--points", "2"]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {name} |" in shown for name in ("tiny", "tiny + document", "tiny + workspace"))
