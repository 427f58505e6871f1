"""What the server says of itself in words for people, so that no editor needs words of its own.

Pure functions. Does not know how or where an editor shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from server.completion.engine import MemoryInfo
from server.completion.records import Counters, RequestRecord
from server.completion.status import Status

NAME = "Foretype"
TITLES = (
    "total ms", "source", "chars", "end, or why nothing", "file",
    "prompt", "reused", "new", "prefill ms", "decode ms",
)  # fmt: skip


def title(status: Status) -> str:
    """Return a few words for a status bar: model and device while completions come, else a name,
    and how much of the model is loaded.
    """
    if status.percent is not None:
        return f"{NAME} {status.percent}%"
    engine = status.engine
    if engine is None or status.state not in ("ready", "busy"):
        return NAME
    return " · ".join(filter(None, (engine.model or engine.engine or NAME, engine.device)))


def facts(
    status: Status, *, counters: Counters, memory: MemoryInfo, last: RequestRecord | None
) -> list[str]:
    """Return all that a user may want to know, a fact a line, the state first."""
    said = [f"{status.state}: {status.message}" if status.message else status.state]
    if engine := status.engine:
        runs = ", ".join(filter(None, (engine.backend, engine.provider, engine.dtype)))
        model = engine.model or engine.engine
        said.append(f"{model} ({runs})" if runs else model)
        skipped = dict(engine.details).get("skipped", "")
        said += [f"skipped: {reason}" for reason in skipped.split("; ") if reason]
    if memory.n_files:
        said.append(f"memory of the workspace: {memory.told}")
    if memory.n_answers:
        share = memory.n_helped / memory.n_answers
        said.append(f"memory helped in {share:.0%} of {memory.n_answers:,} completions")
    if last:
        outcome = last.reason or f"{last.shown_chars} characters from {last.source}"
        said.append(f"last request: {last.total_ms:.1f} ms, {outcome}")
    counted = ("requests", "shown", "accepted", "partially_accepted")
    numbers = asdict(counters)
    said.append(", ".join(f"{numbers[name]} {name.replace('_', ' ')}" for name in counted))
    return said


def request_table(records: Sequence[RequestRecord]) -> str:
    """Return the last requests as a table of text, newest first; numbers and reasons, never text.

    Args:
        records: newest last.
    """
    table = [TITLES, *(_row(record) for record in reversed(records))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _row(record: RequestRecord) -> tuple[str, ...]:
    usage = record.usage
    end = record.reason or usage.finish_reason or ""
    file = record.document.rsplit("/", 1)[-1]
    tokens = (usage.prompt_tokens, usage.reused_tokens, usage.new_tokens)
    return (
        *(f"{record.total_ms:.1f}", record.source, str(record.shown_chars), end, file),
        *map(str, tokens),
        *(f"{usage.prefill_ms:.1f}", f"{usage.decode_ms:.1f}"),
    )
