"""What was completed before, found again by the text before the cursor: a radix trie per document.

Pure data: no clock, no engine. An entry is found when the document's prefix has grown from the
entry's own by a part of the entry's text: typing along, deleting back, asking again and accepting a
word or a line are all the same look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from server.completion.languages import CLOSERS, PAIRS

_SUFFIX_CHARS = 2000
"""So much of the text after the cursor must match; what stands further off shapes no answer
(guessed: a model's window holds about this much of it)."""

_ALWAYS_KEPT = 2
_MAX_CLOSERS = 8
"""Closing characters that an editor may have inserted while the typist went along (guessed)."""


class Entry(Protocol):
    """What the cache keeps. Prefix, suffix and settings never change; the text may still grow."""

    @property
    def prefix(self) -> str:
        """Text before the cursor that the entry was made for."""

    @property
    def suffix(self) -> str:
        """Text after that cursor."""

    @property
    def settings(self) -> Hashable:
        """All else that shaped the text: entries of other settings do not match."""

    @property
    def text(self) -> str:
        """The text that follows the prefix, as far as it is known."""


E = TypeVar("E", bound=Entry)


@dataclass(slots=True)
class _Node(Generic[E]):
    label: str
    entries: list[E] = field(default_factory=list)
    children: dict[str, _Node[E]] = field(default_factory=dict)


class PrefixTrie(Generic[E]):
    """Entries of one document by prefix; the least recently used leave first.

    Args:
        max_entries: so many are kept at the most.
        max_chars: so much text around their cursors is kept, but always the last two entries: a
            large document's own text is what an entry costs.
    """

    def __init__(self, max_entries: int = 100, max_chars: int = 8_000_000) -> None:
        self._root: _Node[E] = _Node("")
        self._by_use: OrderedDict[int, E] = OrderedDict()
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._n_chars = 0

    def __len__(self) -> int:
        return len(self._by_use)

    def __iter__(self) -> Iterator[E]:
        return iter(list(self._by_use.values()))

    def add(self, entry: E) -> None:
        """Keep an entry; one of the same prefix, suffix and settings is replaced."""
        node = self._node_for(entry.prefix)
        for other in list(node.entries):
            if other.suffix == entry.suffix and other.settings == entry.settings:
                self.remove(other)
        node = self._node_for(entry.prefix)
        node.entries.append(entry)
        self._by_use[id(entry)] = entry
        self._n_chars += _cost(entry)
        while len(self._by_use) > self._max_entries or (
            self._n_chars > self._max_chars and len(self._by_use) > _ALWAYS_KEPT
        ):
            self.remove(next(iter(self._by_use.values())))

    def remove(self, entry: E) -> None:
        """Forget an entry; one that is not there is no error."""
        if self._by_use.pop(id(entry), None) is None:
            return
        self._n_chars -= _cost(entry)
        path = self._path(entry.prefix)
        node = path[-1][0]
        node.entries = [other for other in node.entries if other is not entry]
        self._prune([node for node, _ in path])

    def find(self, prefix: str, suffix: str, settings: Hashable) -> Iterator[tuple[E, int]]:
        """Yield the entries that know how this text goes on, the longest prefix first.

        Yields:
            The entry, and how many characters of its text stand in the document already.
        """
        for node, depth in reversed(self._path(prefix)):
            typed = prefix[depth:]
            for entry in reversed(node.entries):
                if (
                    entry.settings == settings
                    and entry.text.startswith(typed)
                    and same_suffix(entry.suffix, suffix, typed)
                ):
                    self._by_use.move_to_end(id(entry))
                    yield entry, len(typed)

    def _path(self, text: str) -> list[tuple[_Node[E], int]]:
        """Return the nodes whose whole path is a prefix of a text, with their depths."""
        node, depth = self._root, 0
        path = [(node, depth)]
        while True:
            child = node.children.get(text[depth : depth + 1])
            if child is None or not text.startswith(child.label, depth):
                return path
            node, depth = child, depth + len(child.label)
            path.append((node, depth))

    def _node_for(self, text: str) -> _Node[E]:
        """Return the node of exactly this text, made where it is missing."""
        node, depth = self._path(text)[-1]
        if depth == len(text):
            return node
        rest = text[depth:]
        child = node.children.get(rest[0])
        if child is not None:
            size = _common_length(child.label, rest)
            parent = _Node(child.label[:size], children={child.label[size]: child})
            child.label = child.label[size:]
            node.children[rest[0]] = parent
            node, rest = parent, rest[size:]
            if not rest:
                return node
        node.children[rest[0]] = leaf = _Node[E](rest)
        return leaf

    def _prune(self, path: list[_Node[E]]) -> None:
        """Drop the nodes at the end of a path that hold nothing, join those with one child."""
        for parent, node in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
            if node.entries:
                return
            if not node.children:
                del parent.children[node.label[0]]
            elif len(node.children) == 1:
                (child,) = node.children.values()
                child.label = node.label + child.label
                parent.children[child.label[0]] = child
                return
            else:
                return


def _cost(entry: Entry) -> int:
    return len(entry.prefix) + len(entry.suffix)


def same_suffix(old: str, new: str, typed: str) -> bool:
    """Whether the text after the cursor is what it was, but for closing characters.

    An editor that closes brackets puts `)` after the cursor when `(` is typed, and lets the typist
    write over it when `)` is typed: the entry's text still holds.
    """
    if old[:_SUFFIX_CHARS] == new[:_SUFFIX_CHARS]:
        return True
    for size in range(1, min(len(typed), _MAX_CLOSERS) + 1):
        inserted, written_over = new[:size], old[:size]
        if old[:_SUFFIX_CHARS] == new[size : size + _SUFFIX_CHARS]:
            return _closes_typed(inserted, typed)
        if new[:_SUFFIX_CHARS] == old[size : size + _SUFFIX_CHARS]:
            return _are_closers(written_over) and _occurs_in_order(written_over, typed)
    return False


def _are_closers(text: str) -> bool:
    return not text.strip(CLOSERS)


def _occurs_in_order(closers: str, typed: str) -> bool:
    characters = iter(typed)
    return all(closer in characters for closer in closers)


def _closes_typed(inserted: str, typed: str) -> bool:
    """Whether closing characters, innermost first, belong to brackets in the typed text."""
    waiting = [PAIRS[c] for c in typed if c in PAIRS]
    return all(waiting and waiting.pop() == closer for closer in inserted)


def _common_length(left: str, right: str) -> int:
    """Return the length of the longest common prefix of two texts."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # By halving: comparing slices is quick, comparing characters is not.
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
