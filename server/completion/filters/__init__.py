"""What happens to a completion before it is shown: small pure functions on text.

A filter is given a `Draft` and returns the text to show: never longer than the draft's, empty for
nothing. Filters are plugins of the group `foretype.filters`; `options.filters` says which run and
in which order. Nothing here knows tokens, the protocol or the other filters.
"""

from server.completion.filters.chain import Draft, Filter, FilterChain
from server.completion.filters.repetition import cut_repetition, is_telling, may_say_again
from server.completion.filters.surroundings import cut_suffix_overlap, cut_unbalanced_closers
from server.completion.filters.unsafe import (
    UNFINISHED_SECRET,
    cut_control_characters,
    drop_secrets,
    drop_special,
)
from server.completion.filters.whitespace import drop_blank, indent_unit, match_indentation

__all__ = [
    "UNFINISHED_SECRET",
    "Draft",
    "Filter",
    "FilterChain",
    "cut_control_characters",
    "cut_repetition",
    "cut_suffix_overlap",
    "cut_unbalanced_closers",
    "drop_blank",
    "drop_secrets",
    "drop_special",
    "indent_unit",
    "is_telling",
    "match_indentation",
    "may_say_again",
]
