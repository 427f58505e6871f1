"""What must not be shown: special tokens, characters that are not seen, secrets."""

from __future__ import annotations

import math
import re
from collections import Counter

from server.completion.filters.chain import Draft

_SPECIAL = re.compile(
    r"<\|[\w▁ /-]{1,40}\|>"  # GPT-2, Qwen, CodeGemma
    r"|<fim[_-](?:prefix|middle|suffix|pad)>"  # StarCoder, SantaCoder
    r"|<｜[\w▁ -]{1,40}｜>"  # noqa: RUF001 - DeepSeek's full-width bars
    r"|<(?:file_sep|repo_name|EOT|PRE|SUF|MID)>"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # bidi controls and zero widths
    "\ud800-\udfff\ufffd\ufff9-\ufffb]"  # half characters, replacements, annotations
)


def drop_special(draft: Draft) -> str:
    """Cut before a special token of a model that was written out as text."""
    return _cut_before(_SPECIAL, draft.text)


def cut_control_characters(draft: Draft) -> str:
    """Cut before a character that is not seen but changes what is: controls, bidi, zero width.

    The joiners U+200C and U+200D stay: Persian and emoji need them.
    """
    return _cut_before(_UNSEEN, draft.text)


def _cut_before(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return text[: match.start()] if match else text


_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[0-9A-Za-z]{20,}"
    r"|\bgithub_pat_\w{20,}"
    r"|\bxox[abprs]-[0-9A-Za-z-]{10,}"
    r"|\bsk-[0-9A-Za-z_-]{20,}"
    r"|\bAIza[0-9A-Za-z_-]{35}"
    r"|\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}"
)
_QUOTED_RUN = re.compile(r"""(?<=["'`])[0-9A-Za-z+/=_-]{24,}(?=["'`])""")
UNFINISHED_SECRET = re.compile(
    r"(?:-----BEGIN[A-Z -]*|\b(?:AKIA|ASIA|gh[pousr]_|github_pat_|xox[abprs]-|sk-|AIza|eyJ)[\w.-]*"
    r"""|["'`][0-9A-Za-z+/=_-]*[0-9][0-9A-Za-z+/=_-]*["'`]?)$"""
)
"""The end of a text that may still become a secret; held back while it grows."""
_HEX_RUN = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")
_SECRET_BITS = 3.8
"""Bits per character from which a quoted run of mixed letters and digits counts as a secret: random
base64 of 24 characters has 4.0 and more (computed)."""


def drop_secrets(draft: Draft) -> str:
    """Cut before what looks like a key, a token or a password of a machine."""
    text = _cut_before(_SECRET, draft.text)
    for match in _QUOTED_RUN.finditer(text):
        if _looks_random(match.group()):
            return text[: match.start()]
    return text


def _looks_random(run: str) -> bool:
    n_digits = sum(c.isdigit() for c in run)
    if _HEX_RUN.fullmatch(run):
        return 4 <= n_digits < len(run)
    is_mixed = n_digits >= 3 and any(c.isupper() for c in run) and any(c.islower() for c in run)
    return is_mixed and _bits_per_character(run) >= _SECRET_BITS


def _bits_per_character(text: str) -> float:
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
