"""What was once found by fuzzing stays found: the corpus of past failures, without a fuzzer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fuzz import read_outcome
from benchmarks.fuzz_json import DEPTH, almost, as_bytes
from benchmarks.fuzz_targets import PARAMS, TARGETS, FoundError, border

CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
CASES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_found_no_more(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_past_cases() -> None:
    assert {path.parent.name for path in CASES} == set(TARGETS)


def test_an_answer_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.lsp.protocol.Protocol.refuse", lambda *_: None)
    with pytest.raises(FoundError, match="asked"):
        border(b'{"jsonrpc":"2.0","id":1,"method":"textDocument/inlineCompletion"}')


def test_bytes_change_a_template_in_places_and_zeros_hardly() -> None:
    template = {"a": [1, 2, {"b": "c"}], "d": None}
    assert almost(template, b"") == template
    changed = {json.dumps(almost(template, bytes([n, n, 255 - n]))) for n in range(256)}
    assert len(changed) > 60
    assert template == {"a": [1, 2, {"b": "c"}], "d": None}, "the template is never touched"


def test_what_is_nested_deeply_is_made_as_text() -> None:
    text = as_bytes({"x": {}}, b"\xff")
    assert text.count(b"[") == DEPTH


@pytest.mark.parametrize("method", PARAMS)
def test_the_messages_that_are_changed_are_good_ones(method: str) -> None:
    """The fuzzer starts from what the server takes; else it would test its refusals alone."""
    good = {"jsonrpc": "2.0", "method": method, "params": PARAMS[method]}
    border(json.dumps(good).encode())
    border(json.dumps(good | {"id": 1}).encode())


def test_an_outcome_is_read_from_what_the_fuzzer_says() -> None:
    said = "INFO: x\nDone 1648 runs in 31 second(s)\nstat::number_of_executed_units: 1648\n"
    said += "stat::peak_rss_mb:              77\n"
    assert read_outcome(said) == (1648, 77)
    assert read_outcome("it did not start") == (0, 0)
