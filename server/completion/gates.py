"""Where nothing is offered, and why: the first thing a request passes.

Pure: decides from the request and the options; opens no file. Each reason is a few words that the
user reads in the status.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import pathspec

from server.completion.languages import first_line
from server.completion.request import CompletionRequest
from server.options import Options

logger = logging.getLogger(__name__)

Scope = Literal["off", "document", "place", "engine"]
"""What a closed gate is about: a setting, the whole document, a place in it, the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A gate that lets nothing through."""

    scope: Scope
    reason: str


def closed_gate(request: CompletionRequest, options: Options) -> Closed | None:
    """Return the first gate that is closed for a request; None: the way is free."""
    return document_gate(request, options) or place_gate(request)


def document_gate(request: CompletionRequest, options: Options) -> Closed | None:
    """Return the gate that is closed for the whole document, whatever the cursor's place."""
    if not options.enabled:
        return Closed(scope="off", reason="switched off")
    if not options.languages.get(request.language, options.languages.get("*", True)):
        return Closed(scope="off", reason=f"switched off for {request.language}")
    pattern = denying_pattern(request.path, options.denied_paths)
    if pattern:
        return Closed(scope="document", reason=f"the path is denied by {pattern!r}")
    n_chars = max(request.n_chars, len(request.prefix) + len(request.suffix))
    if n_chars > options.max_document_chars:
        reason = (
            f"the document has {n_chars:,} characters, more than {options.max_document_chars:,}"
        )
        return Closed(scope="document", reason=reason)
    return None


def place_gate(request: CompletionRequest) -> Closed | None:
    """Return the gate that is closed at this place of the document."""
    if not request.prefix.strip():
        return Closed(scope="place", reason="nothing stands before the cursor")
    if request.trigger == "automatic" and is_word_character(request.suffix[:1]):
        return Closed(scope="place", reason="the cursor is inside a word")
    return None


def is_word_character(char: str) -> bool:
    """Whether a character belongs to a word, so that a cursor before it is inside the word."""
    return char.isalnum() or char == "_"


def is_mid_line(request: CompletionRequest) -> bool:
    """Whether more than closing characters stands between the cursor and the line end."""
    return bool(first_line(request.suffix).strip(" \t)]}>\"'`;:,"))


def denying_pattern(path: str, patterns: Sequence[str]) -> str:
    r"""Return the gitignore pattern that denies a path; empty: none does.

    Args:
        path: with `/` or `\` between folders; empty for a document without a file.
        patterns: the last one that matches decides; `!` in front allows again.
    """
    if not path:
        return ""
    spec, kept = _compiled(tuple(patterns))
    result = spec.check_file(path.replace("\\", "/").lstrip("/"))
    if not result.include or result.index is None:
        return ""
    return kept[result.index]


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[pathspec.GitIgnoreSpec, list[str]]:
    """Compile the patterns; those that have no meaning are left out, with a warning."""
    kept = []
    for pattern in patterns:
        try:
            pathspec.GitIgnoreSpec.from_lines([pattern])
        except ValueError as exc:
            logger.warning("a pattern of deniedPaths is ignored: %s", exc)
        else:
            kept.append(pattern)
    return pathspec.GitIgnoreSpec.from_lines(kept), kept
