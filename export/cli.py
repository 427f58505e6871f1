"""The command line of the exporter: arguments in, progress on stderr, one table on stdout.

Knows no checkpoint and no graph: `pipeline` does the work.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.errors import CompletionServerError, nearest_name
from server.exit_codes import ExitCode
from server.manifest import Dtype, FimOrder, Layout

if TYPE_CHECKING:
    from export.pipeline import ExportReport


def main(argv: Sequence[str] | None = None) -> int:
    """Export a checkpoint; return the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    console = Console(stderr=True)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _export(arguments, console)
    except CompletionServerError as exc:
        console.print(f"error: {exc}", style="red", markup=False, soft_wrap=True)
        return ExitCode.FAILED
    except ImportError as exc:
        console.print(
            f"error: {exc.name} is missing; install what exporting needs with "
            "`pip install 'foretype[torch]'`",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        return ExitCode.FAILED
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written", style="red")
        return ExitCode.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _export(arguments: argparse.Namespace, console: Console) -> int:
    from export.pipeline import ExportOptions, export_bundle

    options = ExportOptions(
        model=arguments.model,
        output=arguments.output,
        layout=arguments.layout,
        dtype=arguments.dtype,
        device=arguments.device,
        name=arguments.name,
        revision=arguments.revision,
        fim_order=arguments.fim_order,
        with_checkpoint=not arguments.no_checkpoint,
    )
    with console.status("starting") as status:

        def progress(step: str) -> None:
            console.print(f"• {step}", markup=False, highlight=False)
            status.update(escape(step))
            if step.startswith("downloading"):
                status.stop()  # the download's own bars would write over the spinner
            else:
                status.start()

        report = export_bundle(options, progress)
    _print_report(report)
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turn a checkpoint into a bundle that Foretype serves, held to PyTorch.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint's folder, or its name on the Hugging Face Hub")
    add("--output", type=Path, metavar="DIR", help="the bundle's folder (default: your models)")
    add(
        "--layout",
        type=_one_of(get_args(Layout)),
        metavar="fused|portable",
        help="fused: our quickest graph, for GPT-2 and GPTBigCode; portable: any decoder that "
        "optimum knows, slower (default: fused where it exists)",
    )
    add(
        "--dtype",
        type=_one_of(get_args(Dtype)),
        metavar="fp32|fp16|int8|int4",
        help="fp32: exact; fp16: for CUDA; int8: a quarter of the size, no visible loss; int4: an "
        "eighth, less accurate (default: int8 fused, fp32 portable, fp16 on cuda)",
    )
    add(
        "--device",
        type=_one_of(("cpu", "cuda")),
        default="cpu",
        metavar="cpu|cuda",
        help="what the bundle shall run on (default: cpu, which a CUDA machine can serve too)",
    )
    add("--name", default="", help="the bundle's name (default: the checkpoint's)")
    add("--revision", default="", help="branch, tag or commit on the Hub (default: the newest)")
    add(
        "--fim-order",
        type=_one_of((*get_args(FimOrder), "none")),
        metavar="spm|psm|none",
        help="fill-in-the-middle order that the model was trained for (default: as foretype.json "
        "in the checkpoint says, else psm); none: the text after the cursor is not given to it",
    )
    add(
        "--no-checkpoint",
        action="store_true",
        help="leave the PyTorch weights out: smaller, but no fallback without onnxruntime",
    )
    return parser


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Like argparse's `choices`, but the error names the nearest one."""

    def parse(value: str) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(f"{value!r} is unknown{nearest_name(value, choices)}")
        return value

    return parse


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Let a polite kill clean up as Ctrl-C does."""
    raise KeyboardInterrupt


def _print_report(report: ExportReport) -> None:
    manifest, speed = report.manifest, report.speed
    table = Table(
        title=escape(f"{manifest.name}: {manifest.layout} {manifest.dtype}"), title_justify="left"
    )
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, record in manifest.files.items():
        table.add_row(name, f"{record.n_bytes / 1e6:.1f} MB")
    table.add_section()
    for name, figure in manifest.parity.items():
        table.add_row(name.replace("_", " "), f"{figure:.3g}")
    console = Console()
    console.print(table)
    console.print(
        f"{speed.provider}: prefill of {speed.prompt_tokens} tokens {speed.prefill_ms:.1f} ms, "
        f"decode {speed.decode_ms:.2f} ms/token",
        highlight=False,
    )
    console.print(f"written to {report.folder}", markup=False, highlight=False, soft_wrap=True)
