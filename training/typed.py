"""Held-back lines of a repository, typed with the help of a bundle as the server completes it.

What the network's likelihoods promise is felt as keystrokes: healing, filters, confidence and cache
are those of the server, and a simulated typist takes or leaves what is offered. The memory is off,
so that the networks are compared and not what the workspace knows of itself. Knows bundles; nothing
of training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from server.options import Options
from training.metrics import Interval, bootstrap
from training.replay import Suggest, Suggestion, Typist, replay
from training.repository import HeldBack
from training.served import Served, serving

MOST_LINES = 300
SHORTEST_LINE = 7
SUFFIX_CHARS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A held-back line between what stands above and below it."""

    path: str
    before: str
    text: str
    after: str


def choose_lines(held_back: Sequence[HeldBack], seed: int) -> list[Line]:
    """Return held-back lines of code, at most `MOST_LINES`, by a draw over all of them."""
    lines = []
    for held in held_back:
        offset = 0
        for number, text in enumerate(held.text.split("\n"), start=1):
            end = offset + len(text)
            body = text.strip()
            if number in held.lines and len(body) >= SHORTEST_LINE and not body.startswith("#"):
                before, after = held.text[:offset], held.text[end + 1 :]
                lines.append(Line(path=held.path, before=before, text=text, after=after))
            offset = end + 1
    return random.Random(seed).sample(lines, min(MOST_LINES, len(lines)))


def type_lines(bundle: Path, lines: Sequence[Line], label: str) -> np.ndarray:
    """Type every line with the help of a bundle; answers come at once.

    Args:
        bundle: what is served.
        lines: from `choose_lines`.
        label: of the progress bar.

    Returns:
        [lines, 2] float64: keystrokes pressed, and those that the same text takes without any help.

    Raises:
        ServingError: the bundle cannot be served.
    """
    options = Options(model=str(bundle), memory="off", multi_line="never", deadline_ms=60_000)
    typed = []
    with serving(options) as served:
        for number, line in enumerate(track(lines, f"typing, {label}")):
            document = f"{line.path}#{number}"
            suggest = _suggest(served, document)
            tally = replay(line.before, [line.text], line.after, suggest, Typist())
            served.forget(document)
            typed.append((tally.keys, tally.keys_without))
    return np.array(typed, dtype=np.float64)


def keys_saved(typed: np.ndarray) -> Interval:
    """Return the share of keystrokes saved; lines are resampled."""
    return bootstrap(list(typed[:, None]), _saved)


def gain(before: np.ndarray, after: np.ndarray) -> Interval:
    """Return how much more of the keystrokes is saved; the same lines, so pairs are resampled."""
    pairs = np.concatenate([before, after], axis=1)  # [lines, 4]
    return bootstrap(list(pairs[:, None]), lambda rows: _saved(rows[:, 2:]) - _saved(rows[:, :2]))


def _saved(typed: np.ndarray) -> float:
    return float(1 - typed[:, 0].sum() / max(1.0, typed[:, 1].sum()))


def _suggest(served: Served, document: str) -> Suggest:
    def suggest(prefix: str, suffix: str) -> Suggestion:
        answer, _ = served.complete(document, prefix, suffix[:SUFFIX_CHARS])
        return Suggestion(text=answer.candidates[0].text if answer.candidates else "")

    return suggest
