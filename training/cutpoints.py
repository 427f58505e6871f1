"""Where in held-out files a completion is asked for, and what the right answer is.

Pure and seeded. The headline leaves out lines that nobody needs completed: blank lines, comments,
imports and the inside of docstrings.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Place = Literal["indent", "inside", "trigger"]
PLACES: tuple[Place, ...] = ("indent", "inside", "trigger")
MOST_PER_FILE = 20
SHORTEST_TRUTH = 3

_TRIGGER = re.compile(r"[.(=,\[ ]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutFile:
    """A file that no model in the table was trained on."""

    package: str
    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPoint:
    """A cursor in a file; the truth is the rest of its line."""

    file: int
    place: Place
    prefix: str
    suffix: str
    truth: str


def choose_files(
    rows: Sequence[dict[str, str]], *, per_package: int, chars: tuple[int, int], seed: int
) -> list[HeldOutFile]:
    """Return up to `per_package` Python files of each package whose size lies within `chars`."""
    chosen = []
    for package in sorted({row["package"] for row in rows}):
        own = [
            HeldOutFile(package=package, path=row["path"], text=row["text"])
            for row in rows
            if row["package"] == package
            and row["path"].endswith(".py")
            and chars[0] <= len(row["text"]) <= chars[1]
        ]
        own.sort(key=lambda file: file.path)
        random.Random(f"{seed}/{package}").shuffle(own)
        chosen += own[:per_package]
    return chosen


def choose_cut_points(files: Sequence[HeldOutFile], *, n_points: int, seed: int) -> list[CutPoint]:
    """Return at most `n_points` cursors, at most 20 per file, the three places in turn."""
    per_file = max(1, min(MOST_PER_FILE, -(-n_points // max(1, len(files)))))
    points = []
    for index, file in enumerate(files):
        rng = random.Random(f"{seed}/{file.package}/{file.path}")
        lines = code_lines(file.text)
        for turn, (start, end) in enumerate(rng.sample(lines, min(per_file, len(lines)))):
            place = PLACES[turn % len(PLACES)]
            cursor = _cursor(file.text, start, end, place, rng)
            if cursor is not None:
                points.append(
                    CutPoint(
                        file=index,
                        place=place,
                        prefix=file.text[:cursor],
                        suffix=file.text[end:],
                        truth=file.text[cursor:end],
                    )
                )
    return points


def code_lines(text: str) -> list[tuple[int, int]]:
    """Return start and end offset of the lines that count, without their newline."""
    skipped = _docstring_lines(text)
    spans = []
    offset = 0
    for number, line in enumerate(text.split("\n"), start=1):
        body = line.strip()
        is_plain = body.startswith(("#", "import ", "from ")) or number in skipped
        if len(body) > SHORTEST_TRUTH and not is_plain:
            spans.append((offset, offset + len(line)))
        offset += len(line) + 1
    return spans


def _docstring_lines(text: str) -> set[int]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    lines: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _cursor(text: str, start: int, end: int, place: Place, rng: random.Random) -> int | None:
    first = end - len(text[start:end].lstrip())
    if place == "indent":
        return first
    last = end - SHORTEST_TRUTH
    if place == "inside":
        return rng.randint(first + 1, last) if first + 1 <= last else None
    places = [m.end() for m in _TRIGGER.finditer(text, first + 1, end) if m.end() <= last]
    return rng.choice(places) if places else None
