"""The loop: deterministic, resumed to the bit, able to memorize, and safe when things go wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training import checkpoint as checkpoints
from training.checkpoint import foretype_facts, latest_step, load_model, save_model
from training.config import (
    Config,
    CorpusConfig,
    FimConfig,
    ModelConfig,
    ModelKind,
    OptimizerConfig,
    ScheduleConfig,
    Stage,
)
from training.errors import CheckpointError, DivergedError
from training.fim import prompt
from training.generate import generate_ids
from training.loop import Plan, save, train
from training.packing import pack
from training.plots import read_log
from training.release import hours_of
from training.run_log import TENSORBOARD
from training.tokenizer import encode, special_ids
from training.trainer import Data, Trainer

LINES = "def area(r):\n    return 3.14 * r * r\n\n\ndef edge(a):\n    return 4 * a\n"


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_same_seed_gives_the_same_bits(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    once = train(config, tokenizer, data, Plan(run=tmp_path / "a"))
    again = train(config, tokenizer, data, Plan(run=tmp_path / "b"))
    assert same_weights(once.model, again.model)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_resumed_in_the_middle_ends_in_the_same_bits(
    optimizer: str, config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        config,
        optimizer=OptimizerConfig(kind=optimizer),
        schedule=ScheduleConfig(kind="cosine", warmup_steps=2),
        model=dataclasses.replace(config.model, dropout=0.1),
    )
    whole = train(config, tokenizer, data, Plan(run=tmp_path / "whole"))
    interrupted = Trainer(config, tokenizer, data)
    with mock.patch.object(Trainer, "step", _stops_after(7)), pytest.raises(KeyboardInterrupt):
        train(
            dataclasses.replace(
                config, run=dataclasses.replace(config.run, checkpoint_every_s=0.0)
            ),
            tokenizer,
            data,
            Plan(run=tmp_path / "parts"),
        )
    assert latest_step(tmp_path / "parts") == tmp_path / "parts" / "step-00000007"
    torch.manual_seed(99)  # a resumed process has another random state
    resumed = train(config, tokenizer, data, Plan(run=tmp_path / "parts", resumes=True))
    assert resumed.state.step == whole.state.step == 12
    assert same_weights(whole.model, resumed.model)
    assert not same_weights(whole.model, interrupted.model)


def _stops_after(n: int):  # type: ignore[no-untyped-def]
    step = Trainer.step

    def stepped(self: Trainer, factor: float) -> tuple[float, float]:
        if self.state.step == n:
            raise KeyboardInterrupt
        return step(self, factor)

    return stepped


@pytest.mark.parametrize("kind", ["gpt2", "lstm", "rnn"])
def test_every_network_learns_in_the_same_loop(
    kind: ModelKind, config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    model = ModelConfig(kind=kind, n_layer=2, n_head=2, n_embd=32, n_ctx=64)
    config = dataclasses.replace(config, model=model)
    trainer = Trainer(config, tokenizer, data)
    before = trainer.dev_bits()
    for _ in range(12):
        trainer.step(1.0)
    assert trainer.dev_bits() < before
    folder = save(trainer, tmp_path / "run")
    again, _ = load_model(folder)
    assert same_weights(trainer.model, again)


@pytest.fixture(scope="module")
def memorized(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Return a network that has read one file until it knew it by heart, in all orders."""
    ids = np.tile(pack(tokenizer, [LINES], "train"), 50)
    config = Config(
        name="overfit",
        folder=Path(),
        corpus=CorpusConfig(manifest="none.toml"),
        model=ModelConfig(n_layer=2, n_head=4, n_embd=64, n_ctx=128),
        fim=FimConfig(rate=0.8, line_share=1.0, span_share=0.0),
        stages=(Stage(from_step=0, n_rows=8, n_ctx=128),),
        schedule=ScheduleConfig(kind="linear", warmup_steps=10),
    )
    config = dataclasses.replace(
        config, run=dataclasses.replace(config.run, n_steps=400, n_threads=1, n_eval_windows=1)
    )
    run = tmp_path_factory.mktemp("overfit")
    return train(config, tokenizer, Data(train=ids, dev=ids), Plan(run=run))


def test_one_file_is_learned_by_heart(memorized: Trainer, tokenizer: Tokenizer) -> None:
    assert memorized.dev_bits() < 0.1
    special = special_ids(tokenizer)
    ids = encode(tokenizer, LINES)
    start = [special.end, *ids[:4]]
    new = generate_ids(memorized.model.eval(), start, max_new_tokens=100, end_id=special.end)[0]
    assert tokenizer.decode(ids[:4] + new) == LINES


@pytest.mark.parametrize("order", ["spm", "psm"])
def test_the_middle_is_filled_in_from_both_sides(
    order: str, memorized: Trainer, tokenizer: Tokenizer
) -> None:
    """Both functions return something: only the suffix tells which one this is."""
    special = special_ids(tokenizer)
    prefix = LINES[: LINES.index(" 3.14")]
    suffix = LINES[LINES.index("\n\n\ndef edge") :]
    ids = prompt(prefix, suffix, order, lambda text: encode(tokenizer, text), special)
    new = generate_ids(memorized.model.eval(), ids, max_new_tokens=40, end_id=special.end)[0]
    assert tokenizer.decode(new) == " 3.14 * r * r"


def test_a_loss_that_is_no_number_stops_with_the_good_checkpoint_kept(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    good = train(config, tokenizer, data, Plan(run=tmp_path, n_steps=6))
    with torch.no_grad():
        next(good.model.parameters()).fill_(float("nan"))
    with (
        mock.patch.object(Trainer, "restore", _restore_broken),
        pytest.raises(DivergedError, match=r"the last good checkpoint is .*step-00000006"),
    ):
        train(config, tokenizer, data, Plan(run=tmp_path, resumes=True, n_steps=20))
    assert latest_step(tmp_path) == tmp_path / "step-00000006"
    again, _ = load_model(tmp_path / "step-00000006")
    assert all(p.isfinite().all() for p in again.parameters())


def _restore_broken(self: Trainer, checkpoint: checkpoints.Checkpoint) -> None:
    self.state = dataclasses.replace(checkpoint.state, progress=0.0)
    with torch.no_grad():
        next(self.model.parameters()).fill_(float("nan"))


def test_a_full_disk_loses_nothing(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    trainer = train(config, tokenizer, data, Plan(run=tmp_path, n_steps=6))
    trainer.step(1.0)
    full = OSError(28, "No space left on device")
    with (
        mock.patch.object(checkpoints, "save_file", side_effect=full),
        pytest.raises(CheckpointError, match=r"No space left on device.*the last one stays"),
    ):
        save(trainer, tmp_path)
    kept = {"latest", "log.jsonl", "step-00000006"}
    assert {path.name for path in tmp_path.iterdir()} - {TENSORBOARD} == kept
    assert latest_step(tmp_path) == tmp_path / "step-00000006"


def test_a_checkpoint_of_other_sizes_is_refused(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    train(config, tokenizer, data, Plan(run=tmp_path))
    wider = dataclasses.replace(config, model=dataclasses.replace(config.model, n_embd=64))
    with pytest.raises(CheckpointError, match=r"is \[320, 32\], the config asks for \[320, 64\]"):
        train(wider, tokenizer, data, Plan(run=tmp_path, resumes=True))


def test_a_finished_run_is_not_overwritten(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    train(config, tokenizer, data, Plan(run=tmp_path, n_steps=2))
    with pytest.raises(CheckpointError, match="holds a run already"):
        train(config, tokenizer, data, Plan(run=tmp_path))
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        train(config, tokenizer, data, Plan(run=tmp_path / "other", resumes=True))


def test_a_cooldown_branches_off_and_leaves_the_run_alone(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    flat = dataclasses.replace(config, schedule=ScheduleConfig(kind="constant", warmup_steps=0))
    train(flat, tokenizer, data, Plan(run=tmp_path / "flat"))
    branch = Plan(run=tmp_path / "branch", cooldown_from=tmp_path / "flat", n_steps=4)
    cooled = train(flat, tokenizer, data, branch)
    assert cooled.state.step == 16
    rows = [json.loads(r) for r in (tmp_path / "branch" / "log.jsonl").read_text().splitlines()]
    assert [r["lr_factor"] for r in rows if "loss" in r] == [1.0, 1.0, 1.0, 0.25]
    assert latest_step(tmp_path / "flat") == tmp_path / "flat" / "step-00000012"


def test_minutes_end_a_run_whose_steps_would_not(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    endless = dataclasses.replace(config, run=dataclasses.replace(config.run, n_steps=10**9))
    trainer = train(endless, tokenizer, data, Plan(run=tmp_path, minutes=0.02))
    assert trainer.state.progress == 1.0
    assert latest_step(tmp_path) is not None


def test_a_branch_tells_the_whole_life_and_counts_its_own_time(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    stable, cooled = tmp_path / "stable", tmp_path / "cooled"
    train(config, tokenizer, data, Plan(run=stable))
    train(config, tokenizer, data, Plan(run=cooled, cooldown_from=stable, n_steps=4))
    rows = read_log(cooled / "log.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [4, 8, 12, 16]
    assert read_log(stable / "log.jsonl") == [row for row in rows if row["step"] <= 12]


def test_hours_are_those_of_all_branches() -> None:
    rows = [{"elapsed_s": s} for s in (100.0, 3600.0, 10.0, 1800.0)]
    assert hours_of([rows[0], {"dev_bits": 1.0}, *rows[1:]]) == 1.5
    assert hours_of([]) == 0.0


def test_training_goes_on_from_what_was_released(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    """Weights, step and position in the data are taken over; schedule and optimizer begin anew."""
    first = train(config, tokenizer, data, Plan(run=tmp_path / "first"))
    released = tmp_path / "released"
    facts = foretype_facts("Apache-2.0", learned=first.state)
    save_model(released, first.model, tokenizer, facts)
    goes_on = train(
        config, tokenizer, data, Plan(run=tmp_path / "second", continue_from=released, n_steps=3)
    )
    assert goes_on.state.step == first.state.step + 3
    assert goes_on.state.cursor > first.state.cursor
    rows = [json.loads(row) for row in (tmp_path / "second/log.jsonl").read_text().splitlines()]
    assert rows[-1]["dev_bits"] < 1.5 * first.state.best_bits


def test_a_checkpoint_that_does_not_tell_how_far_it_came_is_refused(
    config: Config, tokenizer: Tokenizer, data: Data, tmp_path: Path
) -> None:
    trainer = Trainer(config, tokenizer, data)
    save_model(tmp_path / "plain", trainer.model, tokenizer, foretype_facts("Apache-2.0"))
    plan = Plan(run=tmp_path / "run", continue_from=tmp_path / "plain")
    with pytest.raises(CheckpointError, match="how far training has come"):
        train(config, tokenizer, data, plan)
