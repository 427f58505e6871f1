"""The command line: `python -m training corpus | tokenizer | train | ...`.

Parses arguments, configures logging and prints results; each command's work stands in its own
module, imported when the command runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import CompletionServerError
from training.config import load_config
from training.errors import ConfigError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


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
    tokenizer.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="pack with this one instead of learning one"
    )

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
    train.add_argument(
        "--continue-from",
        type=Path,
        metavar="FOLDER",
        help="go on from a released checkpoint or bundle, with warm-up and a fresh optimizer",
    )

    init = _command(commands, "init", _init, "write a checkpoint of a network that learned nothing")
    _config_and_work(init)
    init.add_argument("--output", type=Path, required=True, help="the checkpoint's folder")
    _add_results_commands(commands)
    _add_finetune_command(commands)
    return parser


def _add_results_commands(commands: Commands) -> None:
    generate = _command(commands, "generate", _generate, "write text with a checkpoint")
    generate.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run")
    generate.add_argument("--prompt", default="", help="text to go on from")
    generate.add_argument("--suffix", help="text behind the cursor: fill in the middle")
    generate.add_argument("--length", type=int, default=64, help="most new tokens")
    generate.add_argument("--sequences", type=int, default=1)
    generate.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    generate.add_argument("--top-k", type=int, default=0)
    generate.add_argument("--top-p", type=float, default=1.0)
    generate.add_argument("--seed", type=int, default=0)

    evaluate = _command(commands, "evaluate", _evaluate, "measure on held-out packages")
    evaluate.add_argument(
        "checkpoints", nargs="+", metavar="NAME=FOLDER", help="checkpoint folders, or runs"
    )
    evaluate.add_argument("--work", type=Path, required=True, help="folder with corpus and tokens")
    evaluate.add_argument("--split", default="dev", choices=("dev", "test"))
    evaluate.add_argument("--files", type=int, default=12, help="files per package")
    evaluate.add_argument("--points", type=int, default=400, help="cursors in all")
    evaluate.add_argument("--ngram-tokens", type=int, default=0, help="train a 5-gram on so many")
    evaluate.add_argument(
        "--memory", action="store_true", help="also with the memory of document and workspace"
    )
    evaluate.add_argument("--output", type=Path, help="also write the results as JSON")

    calibrate = _command(
        commands, "calibrate", _calibrate, "fit the memory of the workspace to a model"
    )
    calibrate.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run")
    calibrate.add_argument("--work", type=Path, required=True, help="folder with the corpus")
    calibrate.add_argument("--files", type=int, default=12, help="files per package")
    calibrate.add_argument("--output", type=Path, help="default: memory.json in the checkpoint")

    perplexity = _command(commands, "perplexity", _perplexity, "score text files")
    perplexity.add_argument("checkpoint", type=Path)
    perplexity.add_argument("files", nargs="+", type=Path)

    lr_range = _command(commands, "lr-range", _lr_range, "learning-rate range test, with a plot")
    _config_and_work(lr_range)
    lr_range.add_argument("--steps", type=int, default=120)
    lr_range.add_argument("--output", type=Path, required=True, help="PNG")

    plot = _command(commands, "plot", _plot, "draw a run's curves")
    plot.add_argument("run", type=Path)
    plot.add_argument("--output", type=Path, required=True, help="PNG")

    release = _command(commands, "release", _release, "fp16 checkpoint folder with its card")
    release.add_argument("run", type=Path)
    release.add_argument("--output", type=Path, required=True)
    release.add_argument("--work", type=Path, required=True, help="folder with the corpus")
    release.add_argument("--results", type=Path, nargs="*", default=[], help="from evaluate")
    release.add_argument(
        "--usefulness", type=Path, nargs="*", default=[], help="from benchmarks quality, replay"
    )
    release.add_argument("--commands", type=Path, help="text file: how the model was made")
    release.add_argument("--remark", action="append", default=[], help="a sentence for the card")

    archive = _command(commands, "archive", _archive, "half-size copy of a run, to resume from")
    archive.add_argument("run", type=Path)
    archive.add_argument("--output", type=Path, required=True)


def _add_finetune_command(commands: Commands) -> None:
    text = "learn a user's own repository, on this machine, and serve the result if it is better"
    finetune = _command(commands, "finetune", _finetune, text)
    finetune.add_argument("path", type=Path, help="folder or git repository")
    finetune.add_argument("--method", default="lora", choices=("lora", "full", "last-layer"))
    finetune.add_argument("--minutes", type=float, default=10.0, help="of training at most")
    finetune.add_argument("--split", choices=("time", "file"), help="default: time, with history")
    finetune.add_argument("--base", type=Path, help="checkpoint folder (default: the embedded one)")
    finetune.add_argument("--name", default="", help="of the served model (default: the folder's)")
    finetune.add_argument("--seed", type=int, default=1)
    finetune.add_argument("--no-export", action="store_true", help="leave it at the checkpoint")


def _command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
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


def _step_or_folder(path: Path) -> Path:
    from training.checkpoint import latest_step

    return latest_step(path) or path


def _generate(args: argparse.Namespace) -> None:
    import functools

    from training.checkpoint import load_model
    from training.fim import prompt
    from training.generate import Sampling, generate_ids
    from training.tokenizer import encode, end_id, special_ids

    sampling = Sampling(
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed
    )
    model, tokenizer = load_model(_step_or_folder(args.checkpoint))
    end = end_id(tokenizer)
    to_ids = functools.partial(encode, tokenizer)
    if args.suffix is None:
        ids = [end, *to_ids(args.prompt)]
    else:
        ids = prompt(args.prompt, args.suffix, "spm", to_ids, special_ids(tokenizer))
    outputs = generate_ids(
        model,
        ids,
        max_new_tokens=args.length,
        n_sequences=args.sequences,
        sampling=sampling,
        end_id=end,
    )
    for number, output in enumerate(outputs, start=1):
        if args.sequences > 1:
            print(f"--- {number}")
        print(args.prompt + tokenizer.decode(output) + (args.suffix or ""))


def _evaluate(args: argparse.Namespace) -> None:
    from training.card import likelihood_table, lines_table
    from training.evaluate import Protocol, evaluate, load_named
    from training.packing import open_tokens
    from training.tokenizer import load_tokenizer

    models = []
    for item in args.checkpoints:
        name, equals, folder = item.rpartition("=")
        path = _step_or_folder(Path(folder))
        models.append(load_named(name if equals else path.name, path))
    ngram = None
    if args.ngram_tokens:
        tokens = args.work / "tokens"
        ids = open_tokens(tokens, "train")[: args.ngram_tokens]
        ngram = (ids, load_tokenizer(tokens / "tokenizer.json"))
    protocol = Protocol(split=args.split, files_per_package=args.files, n_points=args.points)
    results = evaluate(models, args.work / "corpus", protocol, ngram, with_memory=args.memory)
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(likelihood_table(results))
    print()
    print(lines_table(results))
    if args.memory:
        print()
        print(likelihood_table({"likelihood": results["memory"]}))


def _calibrate(args: argparse.Namespace) -> None:
    from server.bundle import MEMORY_FILE
    from server.decoding.memory.coefficients import coefficients_text
    from training.calibrate import calibrate
    from training.checkpoint import load_model, write_atomically
    from training.corpus import read_split
    from training.workspace import WorkspaceProtocol

    folder = _step_or_folder(args.checkpoint)
    model, tokenizer = load_model(folder)
    # The development packages, and no others: the test packages must stay unseen.
    rows = list(read_split(args.work / "corpus", "dev"))
    protocol = WorkspaceProtocol(files_per_package=args.files)
    result = calibrate(model, tokenizer, rows, protocol)
    output = args.output or folder / MEMORY_FILE
    write_atomically(output, coefficients_text(result.coefficients))
    print(
        json.dumps(
            {
                "output": str(output),
                "tokens": result.n_tokens,
                "bits_per_byte": {
                    "network": result.network,
                    "mixture": result.mixture,
                    "mixture, each package left out": result.held_out,
                },
            },
            indent=1,
        )
    )


def _perplexity(args: argparse.Namespace) -> None:
    from training.card import table
    from training.checkpoint import load_model
    from training.likelihood import score_text

    model, tokenizer = load_model(_step_or_folder(args.checkpoint))
    rows = []
    for path in args.files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path}: {exc}") from exc
        if not text:
            raise ConfigError(f"{path} is empty")
        score = score_text(model, tokenizer, text)
        accuracy = score.n_right / score.n_tokens
        figures = (score.perplexity, score.bits_per_byte, accuracy)
        rows.append([str(path), *(f"{f:.3f}" for f in figures), str(score.n_tokens)])
    print(table(["file", "perplexity", "bits per byte", "token accuracy", "tokens"], rows))


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


def _release(args: argparse.Namespace) -> None:
    from training.release import release

    commands = args.commands.read_text(encoding="utf-8").splitlines() if args.commands else []
    print(
        release(
            args.run,
            args.output,
            corpus=args.work / "corpus",
            results=args.results,
            usefulness=args.usefulness,
            commands=commands,
            remarks=args.remark,
        )
    )


def _archive(args: argparse.Namespace) -> None:
    from training.release import archive

    print(archive(args.run, args.output))


def _finetune(args: argparse.Namespace) -> None:
    from training.personal import EMBEDDED, Request, personalize

    outcome = personalize(
        Request(
            path=args.path,
            base=_step_or_folder(args.base) if args.base else EMBEDDED,
            method=args.method,
            minutes=args.minutes,
            split_by=args.split,
            name=args.name,
            seed=args.seed,
            exports=not args.no_export,
        )
    )
    print(outcome.report)
    print(f"\ncheckpoint: {outcome.checkpoint}")
    if outcome.bundle is not None:
        print(f"serve it: python -m server --model {outcome.name}")
