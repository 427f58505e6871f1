"""JSON that is almost right: a template, changed in places that bytes choose. Pure.

A fuzzer that changes single bytes of JSON makes text that no parser takes; one that changes what
the bytes stand for gets behind the parser, and what it learns there guides it on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

MAX_CHANGES = 12
DEPTH = 3000
"""Of what is nested deeply: beyond what Python's parser takes on its stack."""
ODD = (
    None, True, False, 0, -1, 1, 7, 255, 256, 299, 300, 2**31, 2**53, 2**63, -(2**63), 10**40, 0.5,
    -0.0, 1e308, float("inf"), float("nan"), "", "a", "\x00", "\ud83d", "😀", "../../etc/passwd",
    "/etc/passwd", "C:\\x", "{layer}", "%s" * 9, "x" * 5000, "file:///a.py", "utf-8", "\r\n", [],
    [[]], [None] * 50, {}, {"": {}}, {"type": "Sequence"}, {"id": 1},
)  # fmt: skip
"""What takes the place of a value: of another type, at a bound, beyond it, another's name."""


def almost(template: Any, data: bytes) -> Any:
    """Return the template with changes, three bytes for each: where, how, by what."""
    holder = [copy.deepcopy(template)]
    for start in range(0, min(len(data), 3 * MAX_CHANGES) - 2, 3):
        where, how, what = data[start : start + 3]
        places = list(_places(holder))
        parent, key = places[where * len(places) // 256 if where else 0]
        _change(parent, key, how, what, places)
    return holder[0]


def as_bytes(value: Any, data: bytes) -> bytes:
    """Write JSON; for some data nested too deeply, which no value in Python can be."""
    text = json.dumps(value)
    if data[:1] == b"\xff":
        text = text.replace("{}", "[" * DEPTH + "]" * DEPTH)
    return text.encode()


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield where every value stands: its container, and its key or index."""
    if depth > 20 or not isinstance(value, dict | list):
        return
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        yield from _places(value[key], depth + 1)


def _change(parent: Any, key: Any, how: int, what: int, places: list[tuple[Any, Any]]) -> None:
    kind = how % 6
    if kind == 0 and (parent, key) != places[0]:
        del parent[key]
    elif kind == 1:
        other, name = places[what * len(places) // 256]
        parent[key] = copy.deepcopy(other[name])
    elif kind == 2 and isinstance(parent, dict):
        parent[f"{key}{ODD[what % len(ODD)]}"[:40]] = parent.pop(key)
    elif kind == 3 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] += what - 128
    elif kind == 4:
        parent[key] = [parent[key]] * (what % 4)
    else:
        parent[key] = copy.deepcopy(ODD[what % len(ODD)])
