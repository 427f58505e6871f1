"""What is remembered against a list that is searched from end to end, by generated use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.completion.cache import PrefixTrie, same_suffix

MAX_ENTRIES, MAX_CHARS = 6, 40
PREFIXES = st.text("ab(", max_size=7)
GROWTHS = st.text("ab()", max_size=4)
SUFFIXES = st.sampled_from(["", ")", "\nb"])
SETTINGS = st.sampled_from(["greedy", "sampled"])


@dataclass(eq=False)
class Kept:
    """An entry, as an offer is one."""

    prefix: str
    suffix: str
    settings: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.prefix, self.suffix, self.settings

    @property
    def cost(self) -> int:
        return len(self.prefix) + len(self.suffix)


class Remembered(RuleBasedStateMachine):
    """The model is a list, the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.trie = PrefixTrie[Kept](max_entries=MAX_ENTRIES, max_chars=MAX_CHARS)
        self.kept: list[Kept] = []
        self.added: list[Kept] = []
        """In the order of their coming: of two at one prefix, the newer is found first."""

    @rule(prefix=PREFIXES, suffix=SUFFIXES, shape=SETTINGS, text=GROWTHS)
    def add(self, prefix: str, suffix: str, shape: str, text: str) -> None:
        entry = Kept(prefix, suffix, shape, text)
        self.trie.add(entry)
        self.kept = [one for one in self.kept if one.key != entry.key] + [entry]
        self.added.append(entry)
        while len(self.kept) > MAX_ENTRIES or (
            sum(one.cost for one in self.kept) > MAX_CHARS and len(self.kept) > 2
        ):
            del self.kept[0]

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.kept))
        self.trie.remove(entry)
        self.kept.remove(entry)

    @precondition(lambda self: self.added)
    @rule(data=st.data())
    def remove_what_may_be_gone(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.added))
        self.trie.remove(entry)
        self.kept = [one for one in self.kept if one is not entry]

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), more=GROWTHS)
    def grow(self, data: st.DataObject, more: str) -> None:
        """The engine said more of it."""
        data.draw(st.sampled_from(self.kept)).text += more

    @rule(prefix=PREFIXES, suffix=SUFFIXES, shape=SETTINGS)
    def find(self, prefix: str, suffix: str, shape: str) -> None:
        self.check(prefix, suffix, shape)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), n_typed=st.integers(0, 9), suffix=SUFFIXES)
    def find_along(self, data: st.DataObject, n_typed: int, suffix: str) -> None:
        """Type along what is there, or come back to it."""
        entry = data.draw(st.sampled_from(self.kept))
        self.check(entry.prefix + entry.text[:n_typed], suffix, entry.settings)

    def check(self, prefix: str, suffix: str, shape: str) -> None:
        expected = sorted(
            (
                (one, len(prefix) - len(one.prefix))
                for one in reversed([one for one in self.added if one in self.kept])
                if prefix.startswith(one.prefix)
                and (one.prefix + one.text).startswith(prefix)
                and one.settings == shape
                and same_suffix(one.suffix, suffix, prefix[len(one.prefix) :])
            ),
            key=lambda found: found[1],
        )
        assert list(self.trie.find(prefix, suffix, shape)) == expected
        for entry, _ in expected:
            self.kept.remove(entry)
            self.kept.append(entry)

    @invariant()
    def the_same_is_kept_in_the_same_order(self) -> None:
        assert list(self.trie) == self.kept
        assert len(self.trie) == len(self.kept)

    @invariant()
    def no_node_is_there_for_nothing(self) -> None:
        """What is forgotten leaves no text behind: each node holds an entry or parts two ways."""
        root = self.trie._root
        for node in below(root):
            assert node.label
            assert node.entries or len(node.children) > 1
            assert all(first == child.label[0] for first, child in node.children.items())
        assert self.trie._n_chars == sum(entry.cost for entry in self.kept)


def below(node: Any) -> Iterator[Any]:
    for child in node.children.values():
        yield child
        yield from below(child)


TestRemembered = Remembered.TestCase
TestRemembered.settings = settings(max_examples=80, stateful_step_count=30)
