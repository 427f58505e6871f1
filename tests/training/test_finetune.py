"""Fine-tuning: honest splits, methods that learn, and bad results that are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training import finetune as finetuning
from training import personal, typed
from training.checkpoint import foretype_facts, load_model, save_model
from training.config import ModelConfig
from training.errors import FinetuneError, ServingError
from training.evaluate import NamedModel
from training.finetune import Finetuned, Method, finetune, prepare
from training.interpolation import between, largest_share
from training.judging import Judgement
from training.likelihood import Score
from training.model import Gpt2, build_model
from training.personal import EMBEDDED, keystrokes_report
from training.repository import HeldBack, Repository, added_lines, read_repository
from training.typed import choose_lines, gain, keys_saved, type_lines


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def module(i: int) -> str:
    return "".join(f"def task_{i}_{k}(queue):\n    queue.push({k})\n\n\n" for k in range(6))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Return a repository of 14 commits; the last two add lines and move a file."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for i in range(12):
        (root / f"m{i}.py").write_text(module(i))
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", f"add {i}")
    git(root, "mv", "m0.py", "moved.py")
    git(root, "commit", "-q", "-m", "move")
    (root / "m1.py").write_text(module(1) + "def fresh(queue):\n    return queue.pop()\n")
    git(root, "commit", "-q", "-a", "-m", "later")
    return root


def test_by_time_only_later_lines_are_held_back(history: Path) -> None:
    repository = read_repository(history)
    assert repository.split_by == "time"
    assert len(repository.train) == 12
    assert not any("fresh" in text for text in repository.train)
    (held,) = repository.held_back
    assert held.path == "m1.py"
    lines = held.text.split("\n")
    assert [lines[n - 1] for n in sorted(held.lines)] == [
        "def fresh(queue):",
        "    return queue.pop()",
    ]


def test_by_file_no_text_stands_on_both_sides(history: Path) -> None:
    (history / ".venv").mkdir()
    (history / ".venv" / "other.py").write_text(module(99))
    repository = read_repository(history, "file")
    held = {h.text for h in repository.held_back}
    assert held
    assert not held & set(repository.train)
    assert not any("task_99" in text for text in repository.train)


def test_a_folder_without_history_is_split_by_file_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(module(1))
    assert read_repository(tmp_path).split_by == "file"
    with pytest.raises(FinetuneError, match="too few to split by time"):
        read_repository(tmp_path, "time")
    with pytest.raises(FinetuneError, match="is no folder"):
        read_repository(tmp_path / "a.py")


def test_added_lines_are_read_from_hunks_by_file() -> None:
    diff = (
        "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n"
        "@@ -3,2 +4 @@\n-old\n+x\n@@ -9,0 +11,3 @@\n+a\n+b\n+c\n@@ -20,4 +24,0 @@\n-gone\n"
        "diff --git a/y.py b/y.py\n--- a/y.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-y\n"
        "diff --git a/z.py b/w.py\nsimilarity index 100%\nrename from z.py\nrename to w.py\n"
    )
    assert added_lines(diff) == {"x.py": frozenset({4, 11, 12, 13})}


@pytest.fixture(autouse=True)
def _few_cursors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge by little, and keep the standard library out of it."""
    monkeypatch.setattr(typed, "MOST_LINES", 3)
    monkeypatch.setattr(finetuning, "general_texts", lambda _seed, _chars: (GENERAL, GENERAL))


@pytest.fixture
def base(tokenizer: Tokenizer) -> NamedModel:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=32, n_ctx=128)
    model = build_model(config, 320, 0, seed=1).eval()
    return NamedModel(name="base", model=model, tokenizer=tokenizer, order="spm")


GENERAL = ("class Other:\n    name = 'x'\n" * 20, "for key in table:\n    print(key)\n" * 20)


def repository_of(n: int) -> Repository:
    held = HeldBack(path="h.py", text=module(77), lines=frozenset(range(1, 25)))
    texts = tuple(module(i) for i in range(n))
    return Repository(split_by="file", since="", train=texts, held_back=(held,))


@pytest.mark.parametrize("method", ["lora", "full", "last-layer"])
def test_every_method_learns_and_leaves_the_base_alone(method: Method, base: NamedModel) -> None:
    weights = {k: v.clone() for k, v in base.model.state_dict().items()}
    tuned = finetune(
        base,
        repository_of(100),
        method=method,
        minutes=0.02,
        n_threads=1,
    )
    assert tuned.after.own.bits_per_byte < tuned.before.own.bits_per_byte
    assert all(torch.equal(weights[k], v) for k, v in base.model.state_dict().items())
    assert tuned.model.state_dict().keys() == weights.keys()  # adapters are merged


def test_only_the_methods_own_weights_move(base: NamedModel) -> None:
    model = base.model
    assert isinstance(model, Gpt2)
    prepare(model, "last-layer")
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".h.1." in name or "ln_f" in name for name in moving)
    assert moving


def test_too_little_is_refused(base: NamedModel) -> None:
    with pytest.raises(FinetuneError, match="too little to learn from"):
        finetune(base, repository_of(2), method="full", minutes=0.01)
    few = Repository(split_by="file", since="", train=repository_of(100).train, held_back=())
    with pytest.raises(FinetuneError, match="0 lines are held back"):
        finetune(base, few, method="full", minutes=0.01)


def judgement(own: float, general: float) -> Judgement:
    def score(bits: float) -> Score:
        return Score(nats=bits * 0.6931471805599453 * 100, n_bytes=100, n_right=1, n_tokens=10)

    return Judgement(own=score(own), general=score(general))


@pytest.mark.parametrize(
    ("own", "general", "message"),
    [(1.00, 1.00, "held-back lines"), (0.80, 1.05, "general code"), (0.80, 1.02, None)],
)
def test_a_result_is_refused_unless_better_here_and_no_worse_elsewhere(
    own: float, general: float, message: str | None, base: NamedModel
) -> None:
    tuned = Finetuned(
        model=base.model,
        before=judgement(1.0, 1.0),
        after=judgement(own, general),
        n_steps=1,
        seconds=1.0,
    )
    refusal = tuned.refusal()
    assert (refusal is None) if message is None else (refusal or "").startswith(message)


def test_one_command_keeps_what_is_better_in_the_users_own_folder(
    base: NamedModel, tmp_path: Path
) -> None:
    save_model(tmp_path / "base", base.model, base.tokenizer, foretype_facts("MIT"))
    for i in range(120):
        path = tmp_path / "My Project" / f"m{i}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(module(i))
    request = personal.Request(
        path=tmp_path / "My Project",
        base=tmp_path / "base",
        method="full",
        minutes=0.02,
        exports=False,
    )
    with (
        mock.patch.object(personal, "data_folder", return_value=tmp_path / "data"),
        mock.patch.object(Finetuned, "refusal", return_value=None),
    ):
        outcome = personal.personalize(request)
    assert outcome.checkpoint == tmp_path / "data" / "checkpoints" / "My-Project"
    assert outcome.checkpoint.stat().st_mode & 0o077 == 0
    assert "| before |" in outcome.report
    load_model(outcome.checkpoint)


def test_a_refused_result_changes_nothing(base: NamedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "base", base.model, base.tokenizer, foretype_facts("MIT"))
    (tmp_path / "p").mkdir()
    for i in range(120):
        (tmp_path / "p" / f"m{i}.py").write_text(module(i))
    request = personal.Request(path=tmp_path / "p", base=tmp_path / "base", minutes=0.01)
    with (
        mock.patch.object(personal, "data_folder", return_value=tmp_path / "data"),
        mock.patch.object(Finetuned, "refusal", return_value="worse"),
        pytest.raises(FinetuneError, match="refused and nothing was changed"),
    ):
        personal.personalize(request)
    assert not (tmp_path / "data").exists()


def test_weights_lie_between_base_and_tuned(base: NamedModel) -> None:
    tuned = build_model(ModelConfig(n_layer=2, n_head=2, n_embd=32, n_ctx=128), 320, 0, seed=2)
    first, last = base.model.state_dict(), tuned.state_dict()
    nearer = between(base.model, tuned, 0.25).state_dict()
    for name, weight in nearer.items():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * last[name])
    wider = build_model(ModelConfig(n_layer=2, n_head=2, n_embd=64, n_ctx=128), 320, 0, seed=2)
    with pytest.raises(ValueError, match="wte"):
        between(base.model, wider, 0.5)


@pytest.mark.parametrize(("limit", "share"), [(1.0, 1.0), (0.6, 0.5625), (0.04, 0.0)])
def test_as_much_is_kept_as_can_be_borne(limit: float, share: float) -> None:
    assert largest_share(lambda asked: asked <= limit) == share


def test_what_general_code_cannot_bear_is_given_up(base: NamedModel) -> None:
    """Learned from this repository alone; with the base halfway, general code bears it."""
    with mock.patch.object(finetuning, "REPLAY_SHARE", 0.0):
        tuned = finetune(base, repository_of(100), method="full", minutes=0.05, n_threads=1)
    assert tuned.after.general.bits_per_byte <= tuned.before.general.bits_per_byte * 1.03
    assert tuned.after.own.bits_per_byte < tuned.before.own.bits_per_byte


def typed_lines(*keys: int) -> np.ndarray:
    """Return lines of ten characters that took so many keys."""
    return np.array([[k, 10.0] for k in keys])


def test_the_gain_in_keystrokes_is_measured_on_the_same_lines() -> None:
    """Lines differ far more from each other than before from after: pairs show it, halves don't."""
    before, after = typed_lines(10, 2, 10, 2), typed_lines(9, 1, 9, 1)
    saved = keys_saved(before)
    assert saved.value == pytest.approx(0.4)
    assert saved.low < keys_saved(after).low < saved.high
    measured = gain(before, after)
    assert (measured.low, measured.value, measured.high) == pytest.approx((0.1, 0.1, 0.1))
    report = keystrokes_report(before, after)
    assert "0.400 before, 0.500 after, a gain of 0.100 [0.100, 0.100]" in report
    assert "40 keystrokes in 4 held-back lines" in report


def test_only_held_back_code_is_typed_where_it_stands() -> None:
    text = "import os\n\n\ndef first():\n    # a note of some length\n    return os.name\n\nx\n"
    held = HeldBack(path="a.py", text=text, lines=frozenset({4, 5, 6, 8}))
    lines = choose_lines([held], seed=1)
    assert {line.text for line in lines} == {"def first():", "    return os.name"}
    assert all(f"{line.before}{line.text}\n{line.after}" == text for line in lines)


def test_lines_are_typed_with_what_a_bundle_offers(tmp_path: Path) -> None:
    """The embedded model, in a file where one line follows from the lines above."""
    names = ("name", "title", "author", "language", "publisher", "subject")
    above = f"class Book:\n    def __init__(self, {', '.join(names)}):\n"
    text = above + "".join(f"        self.{name} = {name}\n" for name in names)
    held = HeldBack(path="book.py", text=text, lines=frozenset({text.count("\n")}))
    keys = type_lines(EMBEDDED, choose_lines([held], seed=1), "before")
    assert keys.shape == (1, 2)
    assert keys[0, 1] == len("self.subject = subject\n")
    assert keys[0, 0] < keys[0, 1]
    with pytest.raises(ServingError):
        type_lines(tmp_path, choose_lines([held], seed=1), "nothing there")
