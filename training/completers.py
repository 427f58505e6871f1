"""What evaluation compares: text on both sides of a cursor in, the rest of the line out.

Trained networks, and three baselines that need no training. Knows nothing of metrics.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from tokenizers import Tokenizer
from torch import nn

from training.fim import Order, prompt
from training.generate import Reader, generate_ids
from training.tokenizer import encode, end_id, special_ids, token_bytes

Completer = Callable[[str, str], str]

# Shares of the window, and the longest answer; the server's defaults are of the same size.
SUFFIX_SHARE = 0.2
MAX_NEW_TOKENS = 40
# Shortest match that n-gram copying trusts, in tokens; longest that it looks for.
SHORTEST_COPY = 3
LONGEST_COPY = 12

_TOKEN = re.compile(r"\w+|[^\w\s]|\n|[^\S\n]+")


def model_completer(
    model: nn.Module, tokenizer: Tokenizer, order: Order | None, *, heals: bool = True
) -> Completer:
    """Return greedy completion by a network, to the end of the line.

    Args:
        model: in evaluation mode.
        tokenizer: the network's own.
        order: fill in the middle in this order, or None to read left to right only.
        heals: back up over the last token of the prefix and let the network write it again, so that
            the cursor need not be a token boundary.
    """
    end = end_id(tokenizer)
    table = token_bytes(tokenizer)
    to_ids = functools.partial(encode, tokenizer)
    n_room = Reader(model).n_ctx - MAX_NEW_TOKENS - 4
    n_suffix = int(n_room * SUFFIX_SHARE) if order else 0

    def complete(prefix: str, suffix: str) -> str:
        suffix_ids = to_ids(suffix[: n_suffix * 6])[:n_suffix]
        tail = prefix[-n_room * 8 :]
        prefix_ids = to_ids(tail)[-(n_room - len(suffix_ids)) :]
        backed = b""
        if heals and len(prefix_ids) > 1:
            backed = table[prefix_ids.pop()]
        ids = _ordered(prefix_ids, suffix_ids, order) if order else [end, *prefix_ids]
        new = generate_ids(
            model,
            ids,
            max_new_tokens=MAX_NEW_TOKENS,
            end_id=end,
            allowed=functools.partial(_healing_ids, table, backed),
            stops=lambda out: b"\n" in b"".join(table[i] for i in out)[len(backed) :],
        )[0]
        data = b"".join(table[i] for i in new)
        if not data.startswith(backed):
            return ""
        return data[len(backed) :].decode("utf-8", errors="ignore").split("\n")[0]

    def _ordered(prefix_ids: list[int], suffix_ids: list[int], order: Order) -> list[int]:
        parts = iter((prefix_ids, suffix_ids) if order == "psm" else (suffix_ids, prefix_ids))
        return prompt("", "", order, lambda _text: next(parts), special_ids(tokenizer))

    return complete


def _healing_ids(table: list[bytes], backed: bytes, new: list[int]) -> list[int] | None:
    """Return the tokens that agree with the bytes backed over; None once those are written."""
    rest = backed[sum(len(table[i]) for i in new) :]
    if not rest:
        return None
    return [i for i, b in enumerate(table) if b and (b.startswith(rest) or rest.startswith(b))]


def line_recall(prefix: str, _suffix: str) -> str:
    """Complete with the most recent earlier line that begins as this one does."""
    *earlier, typed = prefix.split("\n")
    if not typed.strip():
        return ""
    for line in reversed(earlier):
        if line.startswith(typed) and len(line) > len(typed):
            return line[len(typed) :]
    return ""


def ngram_copy(prefix: str, _suffix: str) -> str:
    """Copy what followed the longest earlier match of the last tokens, to the end of its line.

    Source: Saxena 2023, "Prompt Lookup Decoding" (github.com/apoorvumang/prompt-lookup-decoding).
    """
    matches = list(_TOKEN.finditer(prefix))
    tokens = [m.group() for m in matches]
    for n in range(min(LONGEST_COPY, len(tokens) - 1), SHORTEST_COPY - 1, -1):
        wanted = tokens[-n:]
        for start in range(len(tokens) - n - 1, -1, -1):
            if tokens[start : start + n] == wanted:
                return prefix[matches[start + n - 1].end() :].split("\n")[0]
    return ""


def nothing(_prefix: str, _suffix: str) -> str:
    """Complete nothing: what every figure is compared with in the end."""
    return ""


BASELINES: dict[str, Completer] = {
    "none": nothing,
    "line recall": line_recall,
    "n-gram copy": ngram_copy,
}
