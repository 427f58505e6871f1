"""What a filter is: a draft in, the text to show out; and a row of them.

Does not know the filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from server.errors import told


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A completion that a filter may shorten, and the text around it."""

    text: str
    prefix: str
    suffix: str
    language: str = "plaintext"
    is_explicit: bool = False
    """The user asked for it."""


Filter = Callable[[Draft], str]


class FilterChain:
    """Filters in their order. One that breaks its contract is left out from then on.

    Args:
        filters: names and functions.
        on_broken: is told the name of a filter that broke its contract, and how.
    """

    def __init__(
        self, filters: Iterable[tuple[str, Filter]], on_broken: Callable[[str, str], None]
    ) -> None:
        self._filters = list(filters)
        self._on_broken = on_broken

    def __call__(self, draft: Draft) -> str:
        """Return what is left of a draft after all filters."""
        for name, apply in list(self._filters):
            if not draft.text:
                break
            text, complaint = _applied(apply, draft)
            if complaint:
                self._filters.remove((name, apply))
                self._on_broken(name, complaint)
            else:
                draft = replace(draft, text=text)
        return draft.text


def _applied(apply: Filter, draft: Draft) -> tuple[str, str]:
    """Return what a filter makes of a draft, and a complaint if it broke its contract."""
    try:
        text: object = apply(draft)
    except Exception as exc:  # a stranger's filter may raise anything
        return "", f"it raised {told(exc)}"
    if not isinstance(text, str):
        return "", f"it returned {type(text).__name__} instead of text"
    if len(text) > len(draft.text):
        return "", "it made the text longer"
    return text, ""
