"""From sources to a trained network: corpus, tokenizer, training.

Each command's work stands in a module of its own, imported when the command runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.arguments import add_command, add_config_and_work
from training.config import load_config
from training.errors import ConfigError

if TYPE_CHECKING:
    from training.commands.arguments import Commands


def add(commands: Commands) -> None:
    """Add the commands."""
    corpus = add_command(commands, "corpus", _corpus, "read sources into clean texts")
    add_config_and_work(corpus)
    corpus.add_argument(
        "--place", action="append", default=[], metavar="NAME=FOLDER", help="where {NAME} lies"
    )
    corpus.add_argument("--processes", type=int, default=2)

    tokenizer = add_command(commands, "tokenizer", _tokenizer, "learn the BPE and pack all splits")
    add_config_and_work(tokenizer)
    tokenizer.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="pack with this one instead of learning one"
    )

    train = add_command(commands, "train", _train, "train a model, or go on with it")
    add_config_and_work(train)
    train.add_argument("--output", type=Path, help="the run's folder (default WORK/runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--minutes", type=float, help="fit the schedule to this time")
    train.add_argument("--steps", type=int, help="instead of the config's n_steps")
    train.add_argument(
        "--cooldown-from",
        type=Path,
        metavar="RUN",
        help="branch off another run: from its last step, learning rate linearly to zero",
    )
    train.add_argument(
        "--continue-from",
        type=Path,
        metavar="FOLDER",
        help="go on from a released checkpoint or bundle, with warm-up and a fresh optimizer",
    )

    init = add_command(commands, "init", _init, "a checkpoint that learned nothing")
    add_config_and_work(init)
    init.add_argument("--output", type=Path, required=True, help="the checkpoint's folder")
    lr_range = add_command(commands, "lr-range", _lr_range, "learning-rate range test, with a plot")
    add_config_and_work(lr_range)
    lr_range.add_argument("--steps", type=int, default=120)
    lr_range.add_argument("--output", type=Path, required=True, help="PNG")

    plot = add_command(commands, "plot", _plot, "draw a run's curves")
    plot.add_argument("run", type=Path)
    plot.add_argument("--output", type=Path, required=True, help="PNG")


def _corpus(args: argparse.Namespace) -> None:
    from training.corpus import build_corpus
    from training.manifest import load_manifest

    places = {}
    for place in args.place:
        name, equals, folder = place.partition("=")
        if not equals:
            raise ConfigError(f"--place {place}: NAME=FOLDER is expected")
        places[name] = Path(folder)
    config = load_config(args.config)
    manifest = load_manifest(config.manifest_path(), places)
    summary = build_corpus(manifest, args.work / "corpus", args.processes)
    print(json.dumps(summary, indent=1))


def _tokenizer(args: argparse.Namespace) -> None:
    from training.packing import learn_and_pack

    config = load_config(args.config)
    record = learn_and_pack(
        args.work / "corpus",
        args.work / "tokens",
        n_vocab=config.tokenizer.n_vocab,
        sample_bytes=config.tokenizer.sample_bytes,
        min_frequency=config.tokenizer.min_frequency,
        seed=config.run.seed,
        given=args.tokenizer,
    )
    print(json.dumps(record, indent=1))


def _train(args: argparse.Namespace) -> None:
    from training.loop import Plan, train
    from training.packing import open_tokens
    from training.tokenizer import load_tokenizer
    from training.trainer import Data

    config = load_config(args.config)
    tokens = args.work / "tokens"
    plan = Plan(
        run=args.output or args.work / "runs" / config.name,
        resumes=args.resume,
        cooldown_from=args.cooldown_from,
        continue_from=args.continue_from,
        minutes=args.minutes,
        n_steps=args.steps,
    )
    data = Data(train=open_tokens(tokens, "train"), dev=open_tokens(tokens, "dev"))
    trainer = train(config, load_tokenizer(tokens / "tokenizer.json"), data, plan)
    if trainer.processes.is_main:
        print(json.dumps({"run": str(plan.run), "step": trainer.state.step}))


def _init(args: argparse.Namespace) -> None:
    from training.checkpoint import foretype_facts, save_model
    from training.model import build_model
    from training.tokenizer import end_id, load_tokenizer

    config = load_config(args.config)
    tokenizer = load_tokenizer(args.work / "tokens" / "tokenizer.json")
    n_vocab, end = tokenizer.get_vocab_size(), end_id(tokenizer)
    model = build_model(config.model, n_vocab, end, config.run.seed)
    save_model(args.output, model, tokenizer, foretype_facts("Apache-2.0"))
    print(args.output)


def _lr_range(args: argparse.Namespace) -> None:
    from training.lr_range import lr_range_test, steepest_factor
    from training.packing import open_tokens
    from training.plots import plot_range
    from training.tokenizer import load_tokenizer
    from training.trainer import Data, Trainer

    config = load_config(args.config)
    tokens = args.work / "tokens"
    data = Data(train=open_tokens(tokens, "train"), dev=open_tokens(tokens, "dev"))
    trainer = Trainer(config, load_tokenizer(tokens / "tokenizer.json"), data)
    points = lr_range_test(trainer, n_steps=args.steps)
    plot_range(points, args.output, f"{config.name}: learning-rate range test")
    print(f"steepest at {steepest_factor(points):.3g} of the config's rates; see {args.output}")


def _plot(args: argparse.Namespace) -> None:
    from training.plots import plot_run, read_log
    from training.run_log import LOG

    plot_run(read_log(args.run / LOG), args.output, args.run.name)
    print(args.output)
