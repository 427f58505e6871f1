"""The simulated typist: what is pressed, what is accepted, what is seen, by the rules."""

from __future__ import annotations

import pytest

from training.replay import Rule, Suggestion, Tally, Typist, remembering, replay

LINES = ["def area(side):", "    return side * side", "area(3)"]
TRUTH = "".join(line + "\n" for line in LINES)


def nothing(prefix: str, suffix: str) -> Suggestion:
    return Suggestion(text="")


def oracle(prefix: str, suffix: str) -> Suggestion:
    """Offer the right rest of the line, at once."""
    rest = TRUTH[len(prefix) :]
    return Suggestion(text=rest.partition("\n")[0], is_known=True)


def typed(suggest=nothing, rule: Rule = "full", **pace: float) -> Tally:  # type: ignore[no-untyped-def]
    return replay("", LINES, "", suggest, Typist(rule=rule, **pace))


def test_without_help_every_character_but_the_indentation_is_pressed() -> None:
    tally = typed()
    assert tally.keys == tally.keys_without == 16 + 19 + 8
    assert (tally.accepts, tally.shown, tally.flickers) == (0, 0, 0)
    assert tally.quiet_ends == tally.ends == len(LINES)


def test_right_lines_are_taken_whole_after_the_pause_before_a_line() -> None:
    tally = typed(oracle)
    assert tally.keys == 2 * len(LINES)  # One accept and one Enter for each line.
    assert tally.accepts == tally.shown == len(LINES)
    assert tally.accepted_chars == 15 + 18 + 7
    assert tally.known == tally.requests


@pytest.mark.parametrize(
    ("latency_ms", "keys"),
    [(550.0, 2 * 3), (600.0, 3 * 3), (900.0, 4 * 3), (9000.0, 43)],
    ids=["seen long enough", "one key later", "on its way while typing", "never in time"],
)
def test_whether_an_answer_is_taken_depends_on_when_it_is_seen(
    latency_ms: float, keys: int
) -> None:
    """The pause before a line is 800 ms, of which the last 250 are needed to decide."""
    tally = typed(lambda p, s: Suggestion(text=oracle(p, s).text, latency_ms=latency_ms))
    assert tally.keys == keys


def test_ghost_text_that_is_typed_along_stays_until_it_can_be_taken() -> None:
    """It comes 600 ms into the pause: the first key is due before a decision, the second not."""

    def first_only(prefix: str, suffix: str) -> Suggestion:
        if prefix == "":
            return Suggestion(text="def area(side):", latency_ms=600.0)
        rest = oracle(prefix, suffix).text
        return Suggestion(text=rest if prefix == "d" else "", latency_ms=100.0)

    tally = typed(first_only)
    assert tally.accepts == 1
    assert tally.accepted_chars == len("def area(side):") - 1
    assert tally.accept_latencies_ms == [600.0]


def test_wrong_text_is_typed_over() -> None:
    tally = typed(lambda p, s: Suggestion(text="import this"))
    assert tally.keys == tally.keys_without
    assert tally.quiet_ends == 0


def test_text_that_does_not_go_on_from_what_was_seen_is_a_flicker() -> None:
    texts = iter(["def zone", "other", "other", *[""] * 100])
    tally = typed(lambda p, s: Suggestion(text=next(texts)))
    # "def zone" is typed along once and then replaced; "other" is typed over.
    assert tally.flickers == 1


@pytest.mark.parametrize(("rule", "accepts"), [("full", 0), ("prefix", 1)])
def test_a_right_beginning_is_enough_for_the_prefix_rule(rule: Rule, accepts: int) -> None:
    def beginning(prefix: str, suffix: str) -> Suggestion:
        return Suggestion(text="def area" if prefix == "" else "")

    assert typed(beginning, rule).accepts == accepts


def test_word_by_word_costs_a_key_for_each_word() -> None:
    tally = typed(lambda p, s: Suggestion(text=oracle(p, s).text), "word")
    assert tally.keys < tally.keys_without
    assert tally.accepts > len(LINES)


def test_an_accept_of_several_lines_passes_their_ends() -> None:
    whole = typed(lambda p, s: Suggestion(text=TRUTH[len(p) :].rstrip("\n")))
    assert whole.accepts == 1
    assert whole.keys == 2
    assert whole.ends == 1


def test_what_is_typed_along_is_not_asked_again() -> None:
    asked = []

    def complete(prefix: str, suffix: str) -> str:
        asked.append(prefix)
        return "bcd" if prefix == "a" else "z"

    suggest = remembering(complete)
    answers = [suggest(prefix, "") for prefix in ("a", "ab", "abc", "abx")]
    assert [answer.text for answer in answers] == ["bcd", "cd", "d", "z"]
    assert [answer.is_known for answer in answers] == [False, True, True, False]
    assert asked == ["a", "abx"]


def test_an_answer_on_its_way_is_given_up_when_the_newer_one_says_otherwise() -> None:
    def changing(prefix: str, suffix: str) -> Suggestion:
        rest = oracle(prefix, suffix).text
        return Suggestion(text="?" * (len(prefix) % 2) + rest, latency_ms=900.0, n_tokens=3)

    tally = typed(changing)
    assert tally.shown == 0
    assert tally.keys == tally.keys_without
    assert tally.wasted == tally.decoded == 3 * tally.requests


def test_what_is_seen_is_not_wasted() -> None:
    tally = typed(lambda p, s: Suggestion(text=oracle(p, s).text, latency_ms=100.0, n_tokens=4))
    assert tally.keys == 2 * len(LINES)
    # One answer at each line's beginning, which is taken; one at its end, with nothing to show.
    assert (tally.decoded, tally.wasted) == (4 * 6, 4 * 3)
