"""What the memory of the workspace adds to a network, on held-out packages.

Three systems read the same tokens: the network alone, with the memory of the document, and with
that of document and workspace. Each is the server's own mixture. Knows no training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.mixture import count_votes, memory_weight, mix
from server.decoding.memory.search import Places
from training.likelihood import Score
from training.workspace import Recollection, document_only

VARIANTS = ("network", "+ document", "+ workspace")


def ablate(
    recollections: Iterable[Recollection], coefficients: Coefficients, n_files: int
) -> dict[str, list[Score]]:
    """Return what each system made of each file.

    Args:
        recollections: from `training.workspace.recollect`.
        coefficients: of the mixture.
        n_files: how many files were written anew.
    """
    empty = Score(nats=0.0, n_bytes=0, n_right=0, n_tokens=0)
    scores = {name: [empty] * n_files for name in VARIANTS}
    for each in recollections:
        choices = (None, document_only(each.places), each.places)
        for name, places in zip(VARIANTS, choices, strict=True):
            log_probs = mixed(each.log_probs, places, coefficients)
            so_far = scores[name][each.file]
            scores[name][each.file] = replace(
                so_far,
                nats=so_far.nats - float(log_probs[each.truth]),
                n_bytes=so_far.n_bytes + each.n_bytes,
                n_right=so_far.n_right + int(log_probs.argmax() == each.truth),
                n_tokens=so_far.n_tokens + 1,
            )
    return scores


def mixed(log_probs: np.ndarray, places: Places | None, coefficients: Coefficients) -> np.ndarray:
    """Return the mixture [V] of a network's log-probabilities [V] and what is recalled."""
    if places is None or not places.n_matches:
        return log_probs
    votes = count_votes(places, coefficients)
    return mix(log_probs, votes, memory_weight(votes, log_probs, coefficients))


def labelled(model: str, scores: dict[str, list[Score]]) -> Sequence[tuple[str, list[Score]]]:
    """Return the scores under the names that tables show."""
    return [
        (model if name == "network" else f"{model} {name}", own) for name, own in scores.items()
    ]
