"""What the completer is asked and what it answers: text and offsets, no protocol.

An offset counts Python code points in text whose line ends are LF.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from server.completion.engine import CopySource, EngineUsage

Trigger = Literal["automatic", "invoked"]
Source = Literal["cache", "in_flight", "model", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDocument:
    """Another document that is open, as it was when it was last completed or warmed."""

    path: str
    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """One request: the text on both sides of the cursor and what the editor said of it."""

    document: str
    """Names the document (its URI)."""
    version: int
    """The document's version at the time of the request."""
    prefix: str
    """Text before the cursor, LF line ends; starts at a line start, may be cut at its front."""
    suffix: str
    """Text after the cursor, LF line ends; may be cut at its end."""
    language: str = "plaintext"
    path: str = ""
    """Path relative to the workspace, for context and for denied paths; never opened."""
    location: Path | None = None
    """The document's file, if it has one on this machine; for git's rules, never opened."""
    is_ignored: bool = False
    """Git ignores the file; the completer finds it out."""
    is_off: bool = False
    """The user switched completions off for the document; the completer knows it."""
    n_chars: int = 0
    """Length of the whole document."""
    trigger: Trigger = "automatic"
    selected_text: str = ""
    """What an open completion menu would insert at the cursor (`selectedCompletionInfo`)."""
    open_documents: tuple[OpenDocument, ...] = ()
    """For context sources, the last used first; the completer fills it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Text to insert at the cursor in place of the next `n_replaced` code points of the line."""

    id: str
    """Names the completion for the counters; growing text keeps its id."""
    text: str
    n_replaced: int = 0
    confidence: float = 1.0
    """Mean probability per token, in [0, 1]."""
    copied_from: CopySource | None = None
    """Where a long run of the text stands word for word, if somebody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of a request: candidates, or the reason why there are none."""

    candidates: tuple[Candidate, ...] = ()
    source: Source = "none"
    reason: str = ""
    """Why nothing is offered, in a few words for the user; empty if something is."""
    is_superseded: bool = False
    """A newer request of the same document took over: what the editor shows is to be kept."""
    usage: EngineUsage = field(default_factory=EngineUsage)
    total_ms: float = 0.0
