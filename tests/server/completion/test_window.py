"""The window's start stays while the user types, and moves in big steps at line starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.completion.window import (
    Window,
    choose_order,
    first_lines,
    next_window,
    place_window,
    suffix_limit,
)
from server.manifest import FimOrder

MAX_TOKENS = 100


def count(text: str) -> int:
    """Four characters a token, rounded up."""
    return -(-len(text) // 4)


def place(
    prefix: str,
    *previous: Window,
    suffix: str = "",
    context: str = "",
    order: FimOrder | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Window:
    return place_window(
        prefix,
        suffix,
        context,
        order=order,
        max_tokens=max_tokens,
        max_suffix_tokens=suffix_limit(order, max_tokens, is_explicit=True),
        previous=previous,
        count=count,
        count_prefix=count,
    )


def lines(n: int, start: int = 0) -> str:
    """Lines that are all different, 15 characters each."""
    return "".join(f"value_{i:04} = {i % 10}\n" for i in range(start, start + n))


def start_line(window: Window) -> str:
    return window.prefix.split("\n", 1)[0]


@pytest.mark.parametrize(
    ("order", "suffix", "is_explicit", "expected"),
    [
        (None, ")\n", True, None),
        ("spm", "\nreturn x\n", False, "spm"),
        ("spm", ")", False, "spm"),
        ("spm", "", True, None),
        ("spm", "\n  \n", True, None),
        ("psm", ")\nx", False, "psm"),
        ("psm", "\nreturn x\n", False, None),
        ("psm", "  \nreturn x\n", False, None),
        ("psm", "\nreturn x\n", True, "psm"),
        ("psm", "\n\n", True, None),
    ],
)
def test_the_suffix_is_given_where_it_is_worth_it(order, suffix, is_explicit, expected) -> None:
    assert choose_order(order, suffix, is_explicit=is_explicit) == expected


@pytest.mark.parametrize(
    ("order", "is_explicit", "expected"),
    [("spm", False, 25), ("spm", True, 25), ("psm", True, 25), ("psm", False, 6), (None, True, 0)],
)
def test_a_suffix_that_each_keystroke_reads_again_is_short(order, is_explicit, expected) -> None:
    assert suffix_limit(order, 100, is_explicit=is_explicit) == expected


def test_a_text_that_fits_is_taken_whole() -> None:
    assert place(lines(20)).prefix == lines(20)


def test_a_text_that_does_not_fit_leaves_a_quarter_free_and_starts_at_a_line() -> None:
    window = place(lines(200) + "last")
    assert window.prefix.startswith("value_")
    assert window.prefix.endswith("last")
    assert MAX_TOKENS * 0.65 <= count(window.prefix) <= MAX_TOKENS * 0.75


def test_the_start_stays_while_the_user_types_until_the_window_is_full() -> None:
    typed = lines(40, start=500)
    window = place(lines(200))
    starts = []
    for end in range(len(typed)):
        window = place(lines(200) + typed[:end], window)
        assert count(window.prefix) <= MAX_TOKENS
        starts.append(start_line(window))
    # A step is a quarter of the window.
    assert len(set(starts)) <= 1 + count(typed) / (MAX_TOKENS / 4)
    assert starts == sorted(starts)


def test_the_start_stays_when_text_above_the_window_changes() -> None:
    window = place(lines(200))
    for above in ("", "import os\n" + lines(3), lines(150) + "# a comment\n"):
        kept = above + window.prefix + "typed"
        assert place(kept, window).prefix == window.prefix + "typed"


def test_the_start_stays_when_text_inside_the_window_changes() -> None:
    window = place(lines(200))
    edited = lines(195) + "value = None\n" + lines(4, start=196)
    assert start_line(place(edited, window)) == start_line(window)


def test_the_right_place_is_found_where_the_text_repeats_itself() -> None:
    repeated = lines(10)
    text = lines(30, start=300) + (repeated + "# end\n") * 3
    window = place(text)
    assert start_line(place(text + "x", window)) == start_line(window)
    assert place(text + "x", window).prefix == window.prefix + "x"


def test_the_window_is_placed_anew_when_its_start_is_gone() -> None:
    window = place(lines(200))
    assert place(lines(50), window) == place(lines(50))


def test_the_window_is_placed_anew_when_little_of_it_is_left() -> None:
    """The cursor went up, close to the window's start: there is more to be seen above it."""
    window = place(lines(400), max_tokens=400)
    start = lines(400).index(window.prefix)
    kept, left = lines(400)[: start + 900], lines(400)[: start + 300]
    assert start_line(place(kept, window, max_tokens=400)) == start_line(window)
    assert place(left, window, max_tokens=400) == place(left, max_tokens=400)


def test_going_back_finds_the_earlier_window() -> None:
    first = place(lines(100))
    second = place(lines(300), first)
    back = place(lines(100) + "x", second, first)
    assert back.prefix == first.prefix + "x"


def test_a_line_longer_than_the_window_is_cut_within_and_stays() -> None:
    line = "".join(f"{i:05}," for i in range(100_000))
    window = place(line)
    assert line.endswith(window.prefix)
    assert MAX_TOKENS * 0.65 <= count(window.prefix) <= MAX_TOKENS * 0.75
    assert place(line + "typed", window).prefix == window.prefix + "typed"


def test_a_long_line_above_is_left_out() -> None:
    assert place("x" * 100_000 + "\n" + lines(3)).prefix == lines(3)


def test_the_suffix_is_cut_at_a_line_end_to_a_quarter() -> None:
    window = place(lines(5), suffix=lines(100), order="psm")
    assert lines(100).startswith(window.suffix)
    assert window.suffix.endswith("\n")
    assert MAX_TOKENS * 0.2 <= count(window.suffix) <= MAX_TOKENS * 0.25


def test_the_suffix_stays_when_text_below_the_cut_changes() -> None:
    window = place(lines(5), suffix=lines(100), order="spm")
    changed = place(lines(5) + "x", window, suffix=lines(50) + "changed", order="spm")
    assert changed.suffix == window.suffix


def test_left_to_right_there_is_no_suffix() -> None:
    assert place(lines(5), suffix=lines(3)).suffix == ""


def test_prefix_suffix_and_context_fit_together() -> None:
    window = place(lines(200), suffix=lines(100), context=lines(100), order="spm")
    assert window.context
    assert count(window.prefix) + count(window.suffix) + count(window.context) <= MAX_TOKENS


def test_the_context_is_refreshed_only_when_the_window_moves() -> None:
    window = place(lines(200), context="# old\n")
    assert place(lines(200) + "x", window, context="# new\n").context == "# old\n"
    assert place(lines(230), window, context="# new\n").context == "# new\n"


@pytest.mark.parametrize(("before", "now"), [("", "# new\n"), ("# old\n", "")])
def test_a_context_that_is_switched_on_or_off_counts_at_once(before: str, now: str) -> None:
    window = place(lines(10), context=before)
    assert place(lines(10) + "x", window, context=now).context == now


def following(window: Window, *, previous: Window | None = None, context: str = ""):
    return next_window(
        window,
        count(window.prefix),
        context,
        max_tokens=MAX_TOKENS,
        previous=previous,
        count=count,
        count_prefix=count,
    )


@pytest.mark.parametrize("order", [None, "spm"])
def test_the_window_that_follows_is_known_before_the_jump_and_stays(order: FimOrder | None) -> None:
    typed, suffix = lines(60, start=500), lines(3, start=900)
    window, ahead = place(lines(200), suffix=suffix, order=order), None
    n_jumps, n_known = 0, 0
    for end in range(len(typed)):
        known = [window] if ahead is None else [window, ahead]
        now = place(lines(200) + typed[:end], *known, suffix=suffix, order=order)
        if start_line(now) != start_line(window):
            n_jumps += 1
            assert ahead is not None
            assert n_known >= 10
            assert start_line(now) == start_line(ahead)
            # Nothing is lost by it: a quarter is free, as after any jump.
            n_room = MAX_TOKENS - count(now.suffix)
            assert 0.6 * n_room <= count(now.prefix) <= 0.8 * n_room
            n_known = 0
        window, before = now, ahead
        ahead = following(window, previous=ahead)
        if ahead is not None:
            n_known += 1
            assert window.prefix.endswith(ahead.prefix)
            assert (ahead.suffix, ahead.order) == (window.suffix, window.order)
            assert n_known == 1 or start_line(ahead) == start_line(before)
    assert n_jumps >= 3


def test_the_window_that_follows_is_placed_anew_when_its_start_is_gone() -> None:
    window = place(lines(200))
    window = place(lines(206), window)
    ahead = following(window)
    assert ahead is not None
    edited = window.prefix.replace(start_line(ahead), "changed")
    again = following(replace(window, prefix=edited), previous=ahead)
    assert again is not None
    assert edited.endswith(again.prefix)


def test_the_window_that_follows_has_the_context_of_now() -> None:
    window = place(lines(205), place(lines(200), context="# old\n"), context="# new\n")
    ahead = following(window, context="# new\n")
    assert ahead is not None
    assert (window.context, ahead.context) == ("# old\n", "# new\n")


@pytest.mark.parametrize(
    ("text", "max_tokens", "expected"),
    [
        ("ab\ncd\nef\n", 2, "ab\ncd\n"),
        ("ab\ncd", 9, "ab\ncd"),
        ("abcdefghijkl\nx", 2, "abcdefgh"),
        ("", 5, ""),
        ("abc", 0, ""),
        ("x" * 10_000, 3, "x" * 12),
    ],
)
def test_as_many_whole_lines_as_fit_are_taken(text: str, max_tokens: int, expected: str) -> None:
    assert first_lines(text, max_tokens, count) == expected


TEXT = st.lists(st.sampled_from(["a", "bc\n", "\n", "    x = 1\n", "é" * 9, "y" * 90])).map("".join)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6), st.integers(1, 60))
@settings(max_examples=150)
def test_every_part_is_a_part_of_the_document_and_all_fit(requests, max_tokens: int) -> None:
    previous: list[Window] = []
    for prefix, suffix, context in requests:
        window = place(
            prefix, *previous, suffix=suffix, context=context, order="spm", max_tokens=max_tokens
        )
        assert prefix.endswith(window.prefix)
        assert suffix.startswith(window.suffix)
        tokens = count(window.prefix) + count(window.suffix) + count(window.context)
        assert tokens <= max_tokens
        previous.insert(0, window)
