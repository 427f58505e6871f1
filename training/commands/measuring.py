"""What a checkpoint is worth: text that it writes, figures on held-out packages.

Each command's work stands in a module of its own, imported when the command runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.arguments import add_command, step_or_folder
from training.errors import ConfigError

if TYPE_CHECKING:
    from training.commands.arguments import Commands


def add(commands: Commands) -> None:
    """Add the commands."""
    generate = add_command(commands, "generate", _generate, "write text with a checkpoint")
    generate.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run")
    generate.add_argument("--prompt", default="", help="text to go on from")
    generate.add_argument("--suffix", help="text behind the cursor: fill in the middle")
    generate.add_argument("--length", type=int, default=64, help="most new tokens")
    generate.add_argument("--sequences", type=int, default=1)
    generate.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    generate.add_argument("--top-k", type=int, default=0)
    generate.add_argument("--top-p", type=float, default=1.0)
    generate.add_argument("--seed", type=int, default=0)

    evaluate = add_command(commands, "evaluate", _evaluate, "measure on held-out packages")
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

    calibrate = add_command(
        commands, "calibrate", _calibrate, "fit the memory of the workspace to a model"
    )
    calibrate.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run")
    calibrate.add_argument("--work", type=Path, required=True, help="folder with the corpus")
    calibrate.add_argument("--files", type=int, default=12, help="files per package")
    calibrate.add_argument("--output", type=Path, help="default: memory.json in the checkpoint")

    perplexity = add_command(commands, "perplexity", _perplexity, "score text files")
    perplexity.add_argument("checkpoint", type=Path)
    perplexity.add_argument("files", nargs="+", type=Path)


def _generate(args: argparse.Namespace) -> None:
    import functools

    from training.checkpoint import load_model
    from training.fim import prompt
    from training.generate import Sampling, generate_ids
    from training.tokenizer import encode, end_id, special_ids

    sampling = Sampling(
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed
    )
    model, tokenizer = load_model(step_or_folder(args.checkpoint))
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
        path = step_or_folder(Path(folder))
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

    folder = step_or_folder(args.checkpoint)
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

    model, tokenizer = load_model(step_or_folder(args.checkpoint))
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
