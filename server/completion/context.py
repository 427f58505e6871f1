"""What stands in front of the prompt beside the document's own text.

A context source is given a request and returns text, or nothing. Sources are plugins of the group
`foretype.context`; `options.context_sources` says which run and in which order. A source's text
should change rarely: where it changes, the engine has to read the whole prompt again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from server.completion.languages import language_facts
from server.completion.request import CompletionRequest, OpenDocument
from server.errors import told

ContextSource = Callable[[CompletionRequest], str]

_MAX_CHARS = 4000
"""Context beyond this is cut: the document's own text matters more (guessed)."""
_WORD = re.compile(r"[^\W\d]\w+")
_WINDOW_LINES = 20
"""Lines of a snippet. Copilot's windows have 60 for a prompt of 8000 tokens; ours has 1000."""
_NEAR_LINES = 30
"""Lines above the cursor that a snippet is compared with (guessed)."""
_MIN_OVERLAP = 0.15
"""Share of common words under which a snippet says nothing about this place (guessed)."""
_MAX_SNIPPETS = 2


class ContextChain:
    """Context sources in their order. One that breaks its contract is left out from then on.

    Args:
        sources: names and functions.
        on_broken: is told the name of a source that broke its contract, and how.
    """

    def __init__(
        self,
        sources: Iterable[tuple[str, ContextSource]],
        on_broken: Callable[[str, str], None],
    ) -> None:
        self._sources = list(sources)
        self._on_broken = on_broken

    def __call__(self, request: CompletionRequest) -> str:
        """Return the text of all sources, each ending with a line end."""
        parts = []
        for name, source in list(self._sources):
            text, complaint = _text_of(source, request)
            if complaint:
                self._sources.remove((name, source))
                self._on_broken(name, complaint)
            elif text.strip():
                parts.append(text.rstrip("\n") + "\n")
        return "".join(parts)[:_MAX_CHARS]


def _text_of(source: ContextSource, request: CompletionRequest) -> tuple[str, str]:
    """Return what a source gives, and a complaint if it broke its contract."""
    try:
        text: object = source(request)
    except Exception as exc:  # a stranger's source may raise anything
        return "", f"it raised {told(exc)}"
    if not isinstance(text, str):
        return "", f"it returned {type(text).__name__} instead of text"
    return text, ""


def path_comment(request: CompletionRequest) -> str:
    """Return the document's path as a comment of its language; nothing for prose."""
    facts = language_facts(request.language)
    start, end = facts.line_comment
    if not request.path or not start or facts.is_prose:
        return ""
    return " ".join(filter(None, (start, request.path, end))) + "\n"


@dataclass(frozen=True, slots=True)
class _Snippet:
    overlap: float
    document: OpenDocument
    text: str


def similar_code(request: CompletionRequest) -> str:
    """Return pieces of other open documents that share most words with the lines above the cursor.

    At most one piece of a document, the most similar one last, each under its path.
    """
    here = _words("\n".join(request.prefix.rsplit("\n", _NEAR_LINES)[-_NEAR_LINES:]))
    best = []
    for document in request.open_documents:
        if document.language == request.language and here:
            snippet = max(_snippets(document, here), key=lambda one: one.overlap, default=None)
            if snippet is not None and snippet.overlap >= _MIN_OVERLAP:
                best.append(snippet)
    best.sort(key=lambda one: one.overlap)
    start, end = language_facts(request.language).line_comment
    return "".join(
        f"{start} {one.document.path}{' ' + end if end else ''}\n{one.text}\n\n"
        for one in best[-_MAX_SNIPPETS:]
    )


def _snippets(document: OpenDocument, here: frozenset[str]) -> Iterator[_Snippet]:
    """Yield windows of a document, half of each shared with the next, and their overlap."""
    lines = document.text.split("\n")
    for start in range(0, max(len(lines) - _WINDOW_LINES // 2, 1), _WINDOW_LINES // 2):
        text = "\n".join(lines[start : start + _WINDOW_LINES]).strip("\n")
        words = _words(text)
        if words:
            yield _Snippet(len(words & here) / len(words | here), document, text)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))
