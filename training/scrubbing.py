"""Secrets and addresses replaced by placeholders, before any text is trained on.

Pure text in, text out; finds what looks like a secret, and knows nothing of where it came from.
"""

from __future__ import annotations

import math
import re
from collections import Counter

PLACEHOLDER = "REDACTED"
# Shannon entropy per character above which a long quoted token counts as random; 4.5 over at least
# 20 characters is the usual setting of secret scanners (truffleHog, detect-secrets).
RANDOM_BITS = 4.5
RANDOM_CHARS = 20

_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
_TOKENS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{40,}\b|"
    r"\bxox[abposr]-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{20,}\b|\bhf_[A-Za-z]{30,}\b|"
    r"\bAIza[\w-]{35}\b|\bglpat-[\w-]{20,}\b|\bpypi-[\w-]{40,}\b|"
    r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}\b"
)
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/:@'\"]+:[^\s/@'\"]+(?=@)")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[A-Za-z][\w.-]*[A-Za-z]\b")
_QUOTED = re.compile(r"(?<=['\"])[A-Za-z0-9+/=_-]{20,}(?=['\"])")


def entropy_bits(text: str) -> float:
    """Return the Shannon entropy of the characters of `text`, in bits per character."""
    n = len(text)
    return -sum(k / n * math.log2(k / n) for k in Counter(text).values())


def scrub(text: str) -> tuple[str, int]:
    """Replace keys, tokens, passwords in URLs, e-mail addresses and random strings.

    Returns:
        The text, and how many replacements were made.
    """
    total = 0
    for pattern, replacement in (
        (_KEY_BLOCK, PLACEHOLDER),
        (_TOKENS, PLACEHOLDER),
        (_URL_PASSWORD, "user:" + PLACEHOLDER),
        (_EMAIL, "user@example.com"),
    ):
        text, n = pattern.subn(replacement, text)
        total += n
    n_random = 0

    def redact(match: re.Match[str]) -> str:
        nonlocal n_random
        found = match.group()
        if not any(map(str.isdigit, found)) or entropy_bits(found) < RANDOM_BITS:
            return found
        n_random += 1
        return PLACEHOLDER

    text = _QUOTED.sub(redact, text)
    return text, total + n_random
