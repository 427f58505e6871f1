"""Tables and the model card, written from results and never by hand.

Knows the plain values that `evaluate` returns and the corpus summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def likelihood_table(results: Mapping[str, Any]) -> str:
    """Return bits per byte and token accuracy, per system and package, as Markdown."""
    likelihood = results["likelihood"]
    packages = list(next(iter(likelihood.values())))
    rows = []
    for name, groups in likelihood.items():
        for package in packages:
            g = groups[package]
            rows.append(
                [
                    name,
                    package,
                    _interval(g["bits_per_byte"], 3),
                    _interval(g["token_accuracy"], 3),
                    f"{g['n_files']} / {g['n_tokens']:,}",
                ]
            )
    return table(["system", "package", "bits per byte", "token accuracy", "files / tokens"], rows)


def lines_table(results: Mapping[str, Any]) -> str:
    """Return how well lines are completed, per system, as Markdown."""
    rows = [
        [
            name,
            _interval(r["em_line"], 3),
            _interval(r["em_norm"], 3),
            _interval(r["edit_similarity"], 1),
            _interval(r["prefix_share"], 3),
            f"{r['bleu']:.1f}",
            f"{r['chrf']:.1f}",
            f"{r['shown']['value']:.2f}",
        ]
        for name, r in results["lines"].items()
    ]
    head = ["system", "em_line", "em_norm", "edit similarity", "prefix share", "BLEU", "chrF"]
    return table([*head, "answered"], rows)


def replay_table(results: Mapping[str, Any]) -> str:
    """Return what a simulated typist saves with each system, as Markdown."""
    head = ["system", "keystrokes saved", "characters accepted", "accepted of shown"]
    head += ["shown per line", "quiet at line ends", "without the model"]
    keys = ("ksr", "rocc", "accepted_of_shown", "shown_per_line", "quiet_rate", "known_share")
    rows = [
        [name, *(_interval(figures[key], 3) for key in keys)]
        for name, figures in results["systems"].items()
    ]
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _useful(measured: Mapping[str, Any]) -> list[str]:
    """Return the parts of a card that show one results file."""
    settings, raw = measured["settings"], measured["raw"]
    split = settings["split"]
    if measured["kind"] == "replay":
        typist = raw["typist"]
        return [
            f"## As a typist feels it, through the server ({split} packages)",
            replay_table(raw),
            f"Rule `{typist['rule']}`, {typist['key_ms']:g} ms a key, answers after "
            f"{raw['latency_ms'] if raw['latency_ms'] is not None else 'their own time in'} ms; "
            f"`{measured['command']}`.",
        ]
    return [
        f"## Lines completed through the server ({split} packages)",
        lines_table(raw),
        f"{raw['n_points']} cursors; 8-bit graph, with the server's filters; "
        f"`{measured['command']}`.",
    ]


def _interval(value: Mapping[str, float], digits: int) -> str:
    return f"{value['value']:.{digits}f} ({value['low']:.{digits}f}-{value['high']:.{digits}f})"


def model_card(
    *,
    name: str,
    sizes: Mapping[str, Any],
    run: Mapping[str, Any],
    corpus: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    usefulness: Sequence[Mapping[str, Any]] = (),
    commands: Sequence[str],
    remarks: Sequence[str] = (),
    curve: str = "",
) -> str:
    """Return the card of a model as Markdown.

    Args:
        name: the config's name.
        sizes: n_layer and the like, and `n_parameters`.
        run: step, tokens, hours.
        corpus: the corpus summary.
        results: what `evaluate` returned, one per split.
        usefulness: results files of `python -m benchmarks quality` and `replay`.
        commands: how to make and measure the model again.
        remarks: sentences on what the reader should know.
        curve: name of the picture of the learning curves beside the card; empty: there is none.
    """
    shape = ", ".join(f"{k} {v}" for k, v in sizes.items())
    packages = [p for p in corpus["packages"] if p["split"] == "train"]
    held_out = [f"{p['name']} {p['version']}" for p in corpus["packages"] if p["split"] != "train"]
    parts = [
        f"# {name}",
        "A GPT-2 for completing Python in an editor, trained from scratch for Foretype. "
        "It reads left to right, and fills in the middle in both orders (SPM, PSM).",
        f"Shape: {shape}.",
        f"Trained on {run['tokens'] / 1e6:.1f} million tokens ({run['step']} steps, "
        f"{run['hours']:.1f} hours of wall time on a shared CPU) "
        f"of a corpus of {corpus['bytes']['train'] / 1e6:.0f} MB from {len(packages)} "
        "permissively licensed packages; every file is recorded with its hash.",
        *remarks,
    ]
    for result in results:
        split = result["protocol"]["split"]
        parts += [
            f"## Packages never trained on ({split})",
            likelihood_table(result),
            f"{result['n_points']} cursors, greedy, to the end of the line; 95 % intervals by "
            "bootstrap over files. An exact match is one of the rest of the line.",
            lines_table(result),
            "`BLEU|" + next(iter(result["lines"].values()))["bleu_signature"] + "`",
        ]
    for measured in usefulness:
        parts += _useful(measured)
    if curve:
        parts += ["## How it learned", f"![loss, bits per byte and pace over tokens]({curve})"]
    parts += [
        "## How to make and measure it again",
        "```sh\n" + "\n".join(commands) + "\n```",
        "## What it was trained on",
        "Held out: " + ", ".join(held_out) + ".",
        table(
            ["package", "version", "licence", "kB"],
            [
                [
                    p["name"],
                    p["version"],
                    p["licence"][:60].replace("|", "/"),
                    str(p["bytes"] // 1000),
                ]
                for p in packages
            ],
        ),
        "Secrets and addresses were replaced before training. The model may still repeat what it "
        "has read often; what it suggests is a draft, not advice.",
    ]
    return "\n\n".join(parts) + "\n"
