"""Figures: metrics on cases done by hand, likelihood against a slow reference, cursors."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.nn import functional

from training.checkpoint import foretype_facts, save_model
from training.config import ModelConfig
from training.cutpoints import HeldOutFile, choose_cut_points, choose_files, code_lines
from training.evaluate import load_named, measure_lines
from training.likelihood import score_text, total, window_starts
from training.metrics import (
    bootstrap,
    common_prefix_share,
    corpus_bleu,
    corpus_chrf,
    edit_similarity,
    exact_match,
    mean_of_column,
    normalized_match,
)
from training.model import build_model
from training.ngram import DISCOUNT, NgramModel
from training.tokenizer import encode

CASES = [
    # predicted, truth, em_line, em_norm, edit similarity, prefix share
    ("return x", "return x  ", 1.0, 1.0, 100 * 16 / 18, 0.8),
    ("f( x )", "f(x)", 0.0, 0.0, 80.0, 0.5),
    ("a  b", "a b", 0.0, 1.0, 100 * 6 / 7, 2 / 3),
    ("", "", 1.0, 1.0, 100.0, 1.0),
    ("", "abc", 0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("predicted", "truth", "em", "norm", "similar", "share"), CASES)
def test_metrics_of_a_line(
    predicted: str, truth: str, em: float, norm: float, similar: float, share: float
) -> None:
    assert exact_match(predicted, truth) == em
    assert normalized_match(predicted, truth) == norm
    assert edit_similarity(predicted, truth) == pytest.approx(similar)
    assert common_prefix_share(predicted, truth) == pytest.approx(share)


def test_bleu_and_chrf_are_100_for_equal_texts_and_are_signed() -> None:
    lines = ["return self . items . pop ( 0 )", "raise IndexError ( empty )"]
    bleu, signature = corpus_bleu(lines, lines)
    assert bleu == pytest.approx(100)
    assert "tok:13a" in signature
    chrf, signature = corpus_chrf(lines, lines)
    assert chrf == pytest.approx(100)
    assert "nc:6" in signature
    assert corpus_bleu(["x"], ["completely different words"])[0] < 5


def test_the_interval_comes_from_whole_files() -> None:
    """Two files that disagree leave more doubt than their rows would, mixed."""
    ones, zeros = np.ones((50, 1)), np.zeros((50, 1))
    by_file = bootstrap([ones, zeros], mean_of_column(0))
    mixed = bootstrap([np.array([[1.0]]), np.array([[0.0]])] * 50, mean_of_column(0))
    assert by_file.value == mixed.value == 0.5
    assert by_file.high - by_file.low > 3 * (mixed.high - mixed.low)


@given(st.integers(1, 300), st.sampled_from([8, 16, 64]))
def test_windows_score_every_target_once(n_targets: int, n_ctx: int) -> None:
    scored: list[int] = []
    for start, fresh in window_starts(n_targets, n_ctx):
        scored += range(start + fresh, min(start + n_ctx, n_targets))
    assert scored == list(range(n_targets))


def test_likelihood_is_the_sum_over_tokens(tokenizer: Tokenizer) -> None:
    model = build_model(ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=256), 320, 0, 1).eval()
    text = "def pop(self):\n    return self.items.pop(0)  # ä\n"
    score = score_text(model, tokenizer, text)
    ids = torch.tensor([[0, *encode(tokenizer, text)]])
    with torch.inference_mode():
        log_probs = functional.log_softmax(model(ids[:, :-1]), -1)[0]
    nats = -log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.n_bytes == len(text.encode())
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / score.n_bytes)
    assert total([score, score]).bits_per_byte == pytest.approx(score.bits_per_byte)


def test_short_windows_score_as_many_tokens(tokenizer: Tokenizer) -> None:
    model = build_model(ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=256), 320, 0, 1).eval()
    text = "self.items.append(item)\n" * 30
    assert score_text(model, tokenizer, text, n_ctx=16).n_tokens == len(encode(tokenizer, text))


def test_ngram_probabilities_are_those_of_a_slow_count(rng: np.random.Generator) -> None:
    ids = rng.integers(0, 4, 200)
    model = NgramModel(ids, 3, n_vocab=4)
    text = rng.integers(0, 4, 30)
    nats, _ = model.score(text)
    expected = 0.0
    for i in range(1, len(text)):
        expected -= math.log(_slow(ids, text[:i].tolist(), int(text[i]), 3, 4))
    assert nats == pytest.approx(expected)


def _slow(ids: np.ndarray, before: list[int], token: int, n: int, n_vocab: int) -> float:
    probability = 1 / n_vocab
    for k in range(min(n - 1, len(before)) + 1):
        context = before[len(before) - k :]
        follow = Counter(
            int(ids[i + k]) for i in range(len(ids) - k) if ids[i : i + k].tolist() == context
        )
        total_count = sum(follow.values())
        if not total_count:
            continue
        left = DISCOUNT * len(follow) / total_count
        probability = max(follow[token] - DISCOUNT, 0) / total_count + left * probability
    return probability


def test_ngram_guess_is_the_most_frequent_follower() -> None:
    model = NgramModel(np.array([1, 2, 3, 1, 2, 3, 1, 2, 0]), 3, n_vocab=4)
    assert model.score(np.array([1, 2, 3]))[1] == 2


SOURCE = '''"""Docstring with code_like = text."""
import os

# comment = here
class Thing:
    """More text
    over lines."""

    def act(self, value):
        self.value = compute(value, 3)
        return self.value
'''


def test_only_lines_of_code_are_asked_for() -> None:
    lines = [SOURCE[a:b].strip() for a, b in code_lines(SOURCE)]
    assert lines == [
        "class Thing:",
        "def act(self, value):",
        "self.value = compute(value, 3)",
        "return self.value",
    ]


def test_cut_points_are_seeded_and_give_the_text_back() -> None:
    files = [HeldOutFile(package="p", path=f"{i}.py", text=SOURCE) for i in range(3)]
    points = choose_cut_points(files, n_points=30, seed=1)
    assert points == choose_cut_points(files, n_points=30, seed=1)
    assert {p.place for p in points} == {"indent", "inside", "trigger"}
    for p in points:
        assert p.prefix + p.truth + p.suffix == SOURCE
        assert "\n" not in p.truth
        assert p.truth


def test_files_are_chosen_by_size_and_package() -> None:
    rows = [{"package": "a", "path": f"{i}.py", "text": "x" * 100} for i in range(9)]
    rows += [{"package": "b", "path": "readme.md", "text": "x" * 100}]
    chosen = choose_files(rows, per_package=4, chars=(50, 200), seed=1)
    assert [f.package for f in chosen] == ["a"] * 4


def test_a_perfect_completer_has_perfect_figures() -> None:
    points = choose_cut_points(
        [HeldOutFile(package="p", path="x.py", text=SOURCE)], n_points=20, seed=1
    )
    answers = {p.prefix: p.truth for p in points}
    figures = measure_lines("oracle", lambda prefix, _suffix: answers[prefix], points)
    assert figures["em_line"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert figures["chrf"] == pytest.approx(100)


def test_a_bundle_with_its_weights_is_read_like_a_checkpoint(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = build_model(ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=64), 320, 0, 1).eval()
    save_model(tmp_path / "checkpoint", model, tokenizer, foretype_facts("MIT"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    manifest = {"special_tokens": {"end": 0, "fim": {"prefix": 1, "order": "psm"}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert load_named("c", tmp_path / "checkpoint").order == "spm"
    bundle = load_named("b", tmp_path)
    assert bundle.order == "psm"
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(bundle.model(ids), model(ids))
