"""The trie of what was completed, alone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.completion.cache import PrefixTrie, same_suffix


@dataclass(eq=False)
class Kept:
    """An entry with nothing but what the trie asks for."""

    prefix: str
    text: str
    suffix: str = ""
    settings: str = ""


def find(trie: PrefixTrie[Kept], prefix: str, suffix: str = "", settings: str = "") -> list[str]:
    return [entry.text[n:] for entry, n in trie.find(prefix, suffix, settings)]


def test_an_entry_is_found_at_its_prefix_and_along_its_text() -> None:
    trie = PrefixTrie[Kept]()
    trie.add(Kept("x = ", "foo(bar)"))
    assert find(trie, "x = ") == ["foo(bar)"]
    assert find(trie, "x = foo(") == ["bar)"]
    assert find(trie, "x = foo(bar)") == [""]
    assert find(trie, "x = fob") == []
    assert find(trie, "x =") == []


def test_the_longest_prefix_comes_first() -> None:
    trie = PrefixTrie[Kept]()
    trie.add(Kept("x = ", "foo(1)"))
    trie.add(Kept("x = foo", "(2)"))
    trie.add(Kept("x = f", "oo(3)"))
    assert find(trie, "x = foo(") == ["2)", "3)", "1)"]


def test_suffix_and_settings_must_match() -> None:
    trie = PrefixTrie[Kept]()
    trie.add(Kept("x = ", "foo", suffix="\ny", settings="greedy"))
    assert find(trie, "x = ", "\ny", "greedy") == ["foo"]
    assert find(trie, "x = ", "\nz", "greedy") == []
    assert find(trie, "x = ", "\ny", "sampled") == []


def test_the_same_place_is_kept_once() -> None:
    trie = PrefixTrie[Kept]()
    trie.add(Kept("x", "1"))
    trie.add(Kept("x", "2"))
    assert len(trie) == 1
    assert find(trie, "x") == ["2"]


def test_the_least_recently_used_entry_leaves_first() -> None:
    trie = PrefixTrie[Kept](max_entries=2)
    trie.add(Kept("a", "1"))
    trie.add(Kept("b", "2"))
    assert find(trie, "a") == ["1"]
    trie.add(Kept("c", "3"))
    assert find(trie, "b") == []
    assert find(trie, "a") == ["1"]


def test_large_documents_keep_few_entries() -> None:
    trie = PrefixTrie[Kept](max_chars=100)
    for n in range(5):
        trie.add(Kept(str(n) * 60, "text"))
    assert len(trie) == 2
    assert find(trie, "4" * 60) == ["text"]


def test_a_growing_text_is_found_as_it_is_now() -> None:
    trie = PrefixTrie[Kept]()
    entry = Kept("x", "")
    trie.add(entry)
    entry.text = "yz"
    assert find(trie, "xy") == ["z"]


@given(st.lists(st.tuples(st.text("ab", max_size=6), st.text("ab", max_size=4)), max_size=20))
def test_the_trie_finds_what_a_list_would(rows: list[tuple[str, str]]) -> None:
    trie = PrefixTrie[Kept](max_entries=5)
    kept: dict[str, str] = {}
    for prefix, text in rows:
        kept.pop(prefix, None)
        kept[prefix] = text
        trie.add(Kept(prefix, text))
        if len(kept) > 5:
            kept.pop(next(iter(kept)))
    assert len(trie) == len(kept)
    for asked in ["", "a", "b", "ab", "aab", "abab", "bbbaab"]:
        expected = sorted(
            (
                (prefix, prefix + text)
                for prefix, text in kept.items()
                if asked.startswith(prefix) and (prefix + text).startswith(asked)
            ),
            key=lambda row: -len(row[0]),
        )
        found = [entry for entry, _ in trie.find(asked, "", "")]
        assert [(entry.prefix, entry.prefix + entry.text) for entry in found] == expected
        for entry in found:
            kept[entry.prefix] = kept.pop(entry.prefix)


@pytest.mark.parametrize(
    ("old", "new", "typed", "is_same"),
    [
        ("\n", "\n", "", True),
        ("\n", "\nx", "", False),
        ("\n", ")\n", "f(", True),
        ("\n", ")\n", "f", False),
        ("\n", "]\n", "f(", False),
        ("\n", ')"\n', "f(", False),
        ("\n", '")\n', 'f("', True),
        (")\n", "\n", "x)", True),
        (")\n", "\n", "x", False),
        (");\n", ";\n", "x)", True),
        ("x)\n", ")\n", "x", False),
    ],
)
def test_closers_of_the_editor_keep_the_suffix(
    old: str, new: str, typed: str, is_same: bool
) -> None:
    assert same_suffix(old, new, typed) is is_same
