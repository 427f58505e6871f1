"""A filter: completions end before the first character that is not ASCII."""

from server.completion.filters import Draft


def cut_at_non_ascii(draft: Draft) -> str:
    """Return the text up to its first character outside ASCII."""
    ends = (i for i, character in enumerate(draft.text) if not character.isascii())
    return draft.text[: next(ends, None)]
