"""What stands in front of the prompt beside the document's own text.

A context source is given a request and returns text, or nothing. Sources are plugins of the group
`foretype.context`; `options.context_sources` says which run and in which order. A source's text
should change rarely: where it changes, the engine has to read the whole prompt again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from server.completion.languages import language_facts
from server.completion.request import CompletionRequest

ContextSource = Callable[[CompletionRequest], str]

_MAX_CHARS = 4000
"""Context beyond this is cut: the document's own text matters more (guessed)."""


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
            try:
                text = source(request)
                if not isinstance(text, str):
                    raise TypeError(f"it returned {type(text).__name__} instead of text")
            except Exception as exc:  # a stranger's source may raise anything
                self._sources.remove((name, source))
                self._on_broken(name, f"it raised {type(exc).__name__}: {exc}")
            else:
                if text.strip():
                    parts.append(text.rstrip("\n") + "\n")
        return "".join(parts)[:_MAX_CHARS]


def path_comment(request: CompletionRequest) -> str:
    """Return the document's path as a comment of its language; nothing for prose."""
    facts = language_facts(request.language)
    start, end = facts.line_comment
    if not request.path or not start or facts.is_prose:
        return ""
    return " ".join(filter(None, (start, request.path, end))) + "\n"
