"""How a model does on a user's own code: held-back lines scored, completed and typed.

Judging is bounded, because on two busy cores it must not take longer than learning. Knows
repositories and networks; nothing of how a network was tuned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.completers import model_completer
from training.evaluate import NamedModel
from training.likelihood import Score, score_text, score_tokens, total
from training.metrics import Interval, bootstrap, exact_match
from training.replay import Typist, remembering, replay
from training.repository import HeldBack
from training.tokenizer import encode, token_bytes

MOST_POINTS = 60
MOST_TYPED_LINES = 30
JUDGED_CHARS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a model does on held-back lines of the repository and on general code."""

    own: Score
    general: Score
    exact_share: float
    n_points: int
    typed: np.ndarray
    """Keystrokes of a simulated typist on held-back lines, answers at once: [lines, 2] float64,
    pressed and those that the same text takes without any help."""

    @property
    def keys_saved(self) -> Interval:
        """Return the share of keystrokes saved; lines are resampled."""
        return bootstrap(list(self.typed[:, None]), _saved)


def judge(
    named: NamedModel, held_back: Sequence[HeldBack], general: Sequence[str], seed: int
) -> Judgement:
    """Score held-back lines in their files and general texts; complete and type held-back lines."""
    named.model.eval()
    held_back = bounded(held_back, seed)
    own = total([_score_lines(named, h) for h in held_back])
    points = _points(held_back, seed)
    complete = model_completer(named.model, named.tokenizer, named.order)
    n_exact = sum(exact_match(complete(p, s), truth) for p, s, truth in points)
    typed = [
        replay(before, [line], after, remembering(complete), Typist())
        for before, line, after in _lines(held_back, seed)
    ]
    return Judgement(
        own=own,
        general=total([score_text(named.model, named.tokenizer, text) for text in general]),
        exact_share=n_exact / max(1, len(points)),
        n_points=len(points),
        typed=np.array([[tally.keys, tally.keys_without] for tally in typed], dtype=np.float64),
    )


def gain(before: Judgement, after: Judgement) -> Interval:
    """Return how much more of the keystrokes is saved; the same lines, so pairs are resampled."""
    pairs = np.concatenate([before.typed, after.typed], axis=1)  # [lines, 4]
    return bootstrap(list(pairs[:, None]), lambda rows: _saved(rows[:, 2:]) - _saved(rows[:, :2]))


def _saved(typed: np.ndarray) -> float:
    return float(1 - typed[:, 0].sum() / max(1.0, typed[:, 1].sum()))


def bounded(held_back: Sequence[HeldBack], seed: int) -> list[HeldBack]:
    """Return texts in a random order until `JUDGED_CHARS` are reached; at least one."""
    chosen: list[HeldBack] = []
    room = JUDGED_CHARS
    for held in random.Random(seed).sample(held_back, len(held_back)):
        if not chosen or len(held.text) <= room:
            chosen.append(held)
            room -= len(held.text)
    return chosen


def _score_lines(named: NamedModel, held: HeldBack) -> Score:
    """Score the tokens that begin in a held-back line, given all that stands before them."""
    scores = score_tokens(named.model, named.tokenizer, held.text)
    table = token_bytes(named.tokenizer)
    data = [table[i] for i in encode(named.tokenizer, held.text)]
    newlines = np.array([b.count(b"\n") for b in data])
    # A token of newline and indentation belongs to the line that it opens.
    line = 1 + np.cumsum(newlines)
    return scores.total(np.isin(line, sorted(held.lines)))


def _places(held_back: Sequence[HeldBack]) -> list[tuple[HeldBack, int, int]]:
    """Return where the code of held-back lines begins and ends, in characters."""
    places = []
    for held in held_back:
        offset = 0
        for number, line in enumerate(held.text.split("\n"), start=1):
            body = line.strip()
            if number in held.lines and len(body) > 6 and not body.startswith("#"):
                places.append((held, offset + len(line) - len(body), offset + len(line)))
            offset += len(line) + 1
    return places


def _lines(held_back: Sequence[HeldBack], seed: int) -> list[tuple[str, str, str]]:
    """Return held-back lines to be typed, each between what stands above and below it."""
    places = _places(held_back)
    chosen = random.Random(seed).sample(places, min(MOST_TYPED_LINES, len(places)))
    lines = []
    for held, _, end in chosen:
        start = held.text.rfind("\n", 0, end) + 1
        lines.append((held.text[:start], held.text[start:end], held.text[end + 1 :]))
    return lines


def _points(held_back: Sequence[HeldBack], seed: int) -> list[tuple[str, str, str]]:
    """Return prefix, suffix and truth at random characters of held-back lines."""
    rng = random.Random(seed)
    places = _places(held_back)
    points = []
    for held, first, end in rng.sample(places, min(MOST_POINTS, len(places))):
        cursor = rng.randint(first, end - 3)
        points.append((held.text[:cursor], held.text[end:], held.text[cursor:end]))
    return points
