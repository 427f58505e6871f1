"""Which licence a distribution or a file has, and whether its text may be trained on.

Knows metadata and header text only; it decides by names and phrases, reads no licence in full
and is no lawyer: whatever it does not recognize as permissive is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from typing import Literal

Verdict = Literal["permissive", "copyleft", "unknown"]

# A long License field is the licence's text, and often quotes those of bundled binaries.
LONGEST_LICENCE_NAME = 120

_COPYLEFT = re.compile(
    r"GPL|General Public|Lesser|\bMPL\b|MPL[- ]?\d|Mozilla|\bEPL\b|Eclipse Public|CDDL|EUPL|"
    r"CC[- ]BY[- ](?:SA|NC|ND)|Share-?Alike|NonCommercial|\bSSPL\b|\bBUSL\b|Proprietary",
    re.IGNORECASE,
)
_PERMISSIVE = re.compile(
    r"\bMIT\b|\bMIT-|\bBSD\b|\dBSD\b|Apache|\bPSF|Python Software Foundation|Python-2\.0|"
    r"\bISC\b|\bZlib\b|Unlicense|\bHPND\b|\bCC0\b|BlueOak|\bWTFPL\b|Public Domain|\bBSL-1\.0\b",
    re.IGNORECASE,
)
_LICENCE_PHRASES = (
    ("MIT", "Permission is hereby granted, free of charge"),
    ("BSD", "Redistribution and use in source and binary forms"),
    ("Apache-2.0", "Apache License, Version 2.0"),
    ("ISC", "Permission to use, copy, modify, and"),
)
# What a file's own header says outweighs what its package says: a vendored module, for instance.
_HEADER_COPYLEFT = re.compile(
    r"\b[AL]?GPL(?:v?\d|-\d|\b)|GNU (?:Lesser|Library|Affero|General)|General Public License|"
    r"Mozilla Public License|\bMPL[- ]\d|Eclipse Public License|Attribution-Share ?Alike|"
    r"CC[- ]BY[- ](?:SA|NC)|proprietary and confidential",
    re.IGNORECASE,
)
HEADER_CHARS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What was found and what follows from it."""

    name: str
    verdict: Verdict


def judge(name: str) -> Verdict:
    """Tell whether a licence name, SPDX expression or classifier is permissive.

    An alternative counts as permissive if one side of its OR is; a conjunction only if all of it
    is.
    """
    alternatives = re.split(r"\s+OR\s+", name)
    verdicts = [_judge_one(alternative) for alternative in alternatives]
    if "permissive" in verdicts:
        return "permissive"
    return "copyleft" if "copyleft" in verdicts else "unknown"


def _judge_one(name: str) -> Verdict:
    if _COPYLEFT.search(name):
        return "copyleft"
    return "permissive" if _PERMISSIVE.search(name) else "unknown"


def licence_of_metadata(
    *, expression: str | None, field: str | None, classifiers: Sequence[str], licence_text: str
) -> Licence:
    """Return the licence that a distribution's metadata states.

    Args:
        expression: `License-Expression`, SPDX.
        field: `License`, free text.
        classifiers: all trove classifiers.
        licence_text: the licence file, "" if there is none; asked last.
    """
    names = [
        c.rsplit(" :: ", 1)[1]
        for c in classifiers
        if c.startswith("License :: ") and not c.endswith("OSI Approved")
    ]
    if expression:
        names = [expression]
    elif field and len(field) <= LONGEST_LICENCE_NAME and field.strip().upper() != "UNKNOWN":
        names.append(field.strip())
    if not names:
        names = [name for name, phrase in _LICENCE_PHRASES if phrase in licence_text][:1]
        if names and _HEADER_COPYLEFT.search(licence_text[:HEADER_CHARS]):
            return Licence(name="mixed licence file", verdict="unknown")
    verdicts = [judge(name) for name in names]
    label = "; ".join(dict.fromkeys(names)) or "none stated"
    if "copyleft" in verdicts:
        return Licence(name=label, verdict="copyleft")
    return Licence(name=label, verdict="permissive" if "permissive" in verdicts else "unknown")


def licence_of_distribution(distribution: Distribution) -> Licence:
    """Return the licence that an installed distribution states."""
    metadata = distribution.metadata
    return licence_of_metadata(
        expression=metadata.get("License-Expression"),
        field=metadata.get("License"),
        classifiers=metadata.get_all("Classifier") or [],
        licence_text=_licence_text(distribution),
    )


def _licence_text(distribution: Distribution) -> str:
    for path in distribution.files or []:
        if ".dist-info" in str(path) and re.match(
            r"(LICEN[CS]E|COPYING)", path.name, re.IGNORECASE
        ):
            located = distribution.locate_file(path)
            with open(str(located), encoding="utf-8", errors="replace") as file:
                return file.read()
    return ""


def has_copyleft_header(text: str) -> bool:
    """Tell whether the first lines of a file name a copyleft or non-commercial licence."""
    return _HEADER_COPYLEFT.search(text[:HEADER_CHARS]) is not None
