"""The command line: `python -m training corpus | tokenizer | train | ...`.

Parses arguments, configures logging and prints results; each command's work stands in its own module,
imported when the command runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from server.errors import CompletionServerError

from training.config import load_config
from training.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit status."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(
        level=args.log_level.upper(),
        format="%(asctime)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    try:
        args.command(args)
    except CompletionServerError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    corpus = _command(commands, "corpus", _corpus, "read the manifest's sources into clean texts")
    _config_and_work(corpus)
    corpus.add_argument(
        "--place", action="append", default=[], metavar="NAME=FOLDER", help="where {NAME} lies"
    )
    corpus.add_argument("--processes", type=int, default=2)

    tokenizer = _command(commands, "tokenizer", _tokenizer, "learn the BPE and pack all splits")
    _config_and_work(tokenizer)

    train = _command(commands, "train", _train, "train a model, or go on with it")
    _config_and_work(train)
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
    return parser


def _command(commands, name, function, text):  # type: ignore[no-untyped-def]
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _config_and_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="training/configs/*.toml")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for corpus, tokens and runs"
    )


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
    )
    print(json.dumps(record, indent=1))


def _train(args: argparse.Namespace) -> None:
    from training.loop import Data, Plan, train
    from training.packing import open_tokens
    from training.tokenizer import load_tokenizer

    config = load_config(args.config)
    tokens = args.work / "tokens"
    plan = Plan(
        run=args.output or args.work / "runs" / config.name,
        resumes=args.resume,
        cooldown_from=args.cooldown_from,
        minutes=args.minutes,
        n_steps=args.steps,
    )
    data = Data(train=open_tokens(tokens, "train"), dev=open_tokens(tokens, "dev"))
    trainer = train(config, load_tokenizer(tokens / "tokenizer.json"), data, plan)
    print(json.dumps({"run": str(plan.run), "step": trainer.state.step}))
