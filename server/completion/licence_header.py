"""Which licence a file's own header names. Pure.

Only what stands in the first lines counts, and only well-known licences: a file that merely talks
about one further down is not under it. Identifiers: SPDX licence list, https://spdx.org/licenses/.
"""

from __future__ import annotations

import re

HEADER_LINES = 40
"""A licence that is spelled out, such as the 3-clause BSD's, takes about thirty. Guessed."""

_SPDX = re.compile(r"SPDX-License-Identifier:\s*(?P<id>[\w.+() -]+?)\s*(?:\*/|-->|$)", re.MULTILINE)
_SPACE = re.compile(r"[\s#*/;%!-]+")
# The first that is found counts: those that contain another's words come before it.
_PHRASES = (
    ("gnu affero general public license", "AGPL"),
    ("gnu lesser general public license", "LGPL"),
    ("gnu library general public license", "LGPL"),
    ("gnu general public license", "GPL"),
    ("mozilla public license", "MPL"),
    ("eclipse public license", "EPL"),
    ("european union public licence", "EUPL"),
    ("licensed under the apache license", "Apache"),
    ("permission is hereby granted, free of charge", "MIT"),
    ("licensed under the mit license", "MIT"),
    ("redistribution and use in source and binary forms", "BSD"),
    ("governed by a bsd style license", "BSD"),
    ("permission to use, copy, modify, and or distribute this software", "ISC"),
    ("all rights reserved", "proprietary"),
)


def licence_named(text: str) -> str:
    """Return the licence that a file's header names, or nothing.

    Two headers with the same answer are under the same licence; versions count where they are given
    as SPDX identifiers.
    """
    header = "\n".join(text.split("\n", HEADER_LINES)[:HEADER_LINES])
    if found := _SPDX.search(header):
        return found["id"]
    words = _SPACE.sub(" ", header).lower()
    return next((name for phrase, name in _PHRASES if phrase in words), "")
