"""What a typist felt, from keystrokes that were made up."""

from typing import Any

import pytest

from benchmarks.client import Pending
from benchmarks.latency import Felt, counts, feel, rest_after, rows, typing_figures
from benchmarks.typist import Keystroke, Kind, match_records, position, shown_texts

CANCELLED = {"code": -32800, "message": ""}


def key(
    prefix: str,
    *shown: str,
    kind: Kind = "typed",
    result: Any = "last",
    error: Any = None,
    **record: Any,
) -> Keystroke:
    """A request at a prefix: `shown` grew, the last of it is the answer if nothing else is."""
    pending = Pending(request_id=1, sent_s=10.0, answered_s=10.5, error=error, is_answered=None)
    if error is not None:
        pending.cancelled_s = 10.4
    for index, text in enumerate(shown):
        pending.progress.append((10.1 + 0.1 * index, [{"insertText": text}]))
    pending.result = {"items": []} if result == "last" else result
    return Keystroke(kind=kind, prefix=prefix, pending=pending, record={"source": "model"} | record)


def felt(*keystrokes: Keystroke) -> list[Felt]:
    return feel(keystrokes, len)


def test_times_run_from_the_sending() -> None:
    [one] = felt(key("a", "b", "bc"))
    assert one.first_ms == pytest.approx(100)
    assert one.answer_ms == pytest.approx(500)
    assert one.shown_tokens == 2


def test_whole_answer_counts_where_nothing_grew() -> None:
    [one] = felt(key("a", result={"items": [{"insertText": "bc"}]}))
    assert one.first_ms == pytest.approx(500)
    assert one.shown_tokens == 2


def test_text_that_grows_does_not_flicker() -> None:
    assert [one.flickers for one in felt(key("a", "b", "bc"), key("ab", "cd"))] == [0, 0]


def test_text_that_changes_flickers() -> None:
    assert [one.flickers for one in felt(key("a", "bc", "bd"))] == [1]
    assert [one.flickers for one in felt(key("a", "bc"), key("ab", "x"))] == [0, 1]


def test_text_for_another_place_is_no_flicker() -> None:
    assert [one.flickers for one in felt(key("a", "bc"), key("ax", "yz"))] == [0, 0]


def test_text_that_is_taken_off_while_it_is_typed_has_vanished() -> None:
    first, second = felt(key("a", "bc"), key("ab"))
    assert not first.vanished
    assert second.vanished


def test_superseded_request_leaves_the_screen_as_it_is() -> None:
    _, second, third = felt(key("a", "bcd"), key("ab", result=None), key("abc", "d"))
    assert second.is_superseded
    assert not second.vanished
    assert third.flickers == 0


def test_answer_is_known_where_shown_text_went_on_or_begins() -> None:
    along = felt(key("a", "bcd"), key("ab", "cd"), key("abx", "y"), key("a", "bcd"))
    assert [one.is_known for one in along] == [False, True, False, True]


def test_text_that_had_not_come_to_its_end_is_not_known() -> None:
    assert not felt(key("a", "bcd", error=CANCELLED), key("ab", "cd"))[1].is_known


def test_cancelled_request_tells_how_long_that_took() -> None:
    [one] = felt(key("a", error=CANCELLED))
    assert one.is_cancelled
    assert one.cancel_ms == pytest.approx(100)


@pytest.mark.parametrize(
    ("shown_at", "text", "prefix", "rest"),
    [
        ("a", "bc", "a", "bc"),
        ("a", "bc", "ab", "c"),
        ("a", "bc", "abc", ""),
        ("a", "bc", "ax", ""),
        ("ab", "c", "a", ""),
    ],
)
def test_rest_is_what_was_not_typed_yet(shown_at: str, text: str, prefix: str, rest: str) -> None:
    assert rest_after(shown_at, text, prefix) == rest


def test_counts_are_sums_and_shares() -> None:
    found = counts(
        felt(
            key("a", "bc", promptTokens=10, newTokens=5, prefilledTokens=1),
            key("ab", "c", source="cache"),
            key("abx", error=CANCELLED, source="none"),
        )
    )
    assert found["requests"] == 3
    assert found["share_cache"] == found["share_cancelled"] == pytest.approx(1 / 3)
    assert (found["decoded_tokens"], found["shown_tokens"], found["wasted_tokens"]) == (5, 2, 3)
    assert (found["known"], found["known_with_a_pass"]) == (1, 0)


def test_known_answers_that_took_a_pass_are_counted() -> None:
    assert counts(felt(key("a", "bc"), key("ab", "c", newTokens=1)))["known_with_a_pass"] == 1


def test_figures_leave_out_what_did_not_happen() -> None:
    names = {one.name for one in typing_figures("server", felt(key("a", "bc")))}
    assert "typing_first_text" in names
    assert "warm_line" not in names
    assert counts([]) == {}


def test_rows_hold_no_text_of_the_document() -> None:
    [row] = rows(felt(key("secret", "hidden")))
    assert not {"secret", "hidden"} & {str(value) for value in row.values()}


def test_position_counts_utf_16_units() -> None:
    assert position("x\n\U0001f600a") == {"line": 1, "character": 3}


def test_nothing_is_shown_for_a_request_that_was_superseded() -> None:
    assert shown_texts(key("a", result=None).pending) == []


def test_cancelled_request_may_have_no_record() -> None:
    """A request that is cancelled in the turn of its arrival is never begun."""
    unbegun, begun = key("a", error=CANCELLED), key("b", "c")
    match_records([unbegun, begun], [{"reason": ""}])
    assert unbegun.record == {"source": "model"}
    assert begun.record == {"reason": ""}


@pytest.mark.parametrize("records", [[], [{"reason": ""}, {"reason": ""}]])
def test_records_of_other_requests_are_refused(records: list[dict[str, Any]]) -> None:
    from benchmarks.errors import BenchmarkError

    with pytest.raises(BenchmarkError, match="records"):
        match_records([key("a", "b")], records)
