"""Special tokens: what foretype.json says, and what is recognised without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.special_tokens import Facts, find_special_tokens, read_facts
from server.errors import CheckpointError
from server.manifest import FimTokens

WORDS = {"a": 0, "b": 1}


def make_tokenizer(folder: Path, *added: str) -> Path:
    tokens = [{"id": len(WORDS) + i, "content": text} for i, text in enumerate(added)]
    raw = {"model": {"vocab": WORDS}, "added_tokens": tokens}
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    return folder


def make_facts(folder: Path, raw: Any) -> Facts:
    (folder / "foretype.json").write_text(json.dumps(raw))
    return read_facts(folder)


@pytest.mark.parametrize(
    "names",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
        ("<PRE>", "<SUF>", "<MID>"),
    ],
)
def test_usual_names_are_recognised_as_psm(tmp_path: Path, names: tuple[str, str, str]) -> None:
    folder = make_tokenizer(tmp_path, "<|endoftext|>", *names)

    found = find_special_tokens(folder, {}, Facts())

    assert found.end == 2
    assert found.fim == FimTokens(prefix=3, suffix=4, middle=5, order="psm")


def test_two_of_three_names_are_no_fill_in_the_middle(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path, "<|endoftext|>", "<PRE>", "<SUF>")

    assert find_special_tokens(folder, {}, Facts()).fim is None


def test_order_on_the_command_line_wins(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path, "</s>", "<PRE>", "<SUF>", "<MID>")
    facts = make_facts(
        folder, {"fim": {"prefix": "<PRE>", "suffix": "<SUF>", "middle": "<MID>", "order": "psm"}}
    )

    for given in (facts, Facts()):
        found = find_special_tokens(folder, {}, given, "spm").fim
        assert found == FimTokens(prefix=3, suffix=4, middle=5, order="spm")
        assert find_special_tokens(folder, {}, given, "none").fim is None


def test_foretype_json_names_tokens_and_order(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path, "<|endoftext|>", "<PRE>", "<SUF>", "<MID>", "<go>", "<bye>")
    facts = make_facts(
        folder,
        {
            "fim": {"prefix": "<go>", "suffix": "<SUF>", "middle": "b", "order": "spm"},
            "end": "<bye>",
            "license": "MIT",
            "card": "made by a test",
        },
    )

    found = find_special_tokens(folder, {}, facts)

    assert found.end == 7
    assert found.fim == FimTokens(prefix=6, suffix=4, middle=1, order="spm")
    assert (facts.license, facts.card) == ("MIT", "made by a test")


@pytest.mark.parametrize("eos", [1, [1, 0]])
def test_end_is_the_config_s_if_no_name_tells_it(tmp_path: Path, eos: object) -> None:
    folder = make_tokenizer(tmp_path)

    assert find_special_tokens(folder, {"eos_token_id": eos}, Facts()).end == 1


def test_unknown_end_says_how_to_name_it(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path)

    with pytest.raises(CheckpointError, match=r"no end token is known; write .*foretype\.json"):
        find_special_tokens(folder, {}, Facts())


def test_declared_token_that_the_tokenizer_lacks_is_refused(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path)

    with pytest.raises(CheckpointError, match=r"names the token '<bye>', which .*tokenizer\.json"):
        find_special_tokens(folder, {}, make_facts(folder, {"end": "<bye>"}))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"licence": "MIT"}, "did you mean 'license'"),
        ({"end": 3}, "end is 3, must be a string"),
        ({"fim": {"prefix": "a", "suffix": "b"}}, "fim must give prefix, suffix and middle"),
        ({"fim": {"prefix": "a", "suffix": "b", "middle": "c", "order": "pms"}}, "spm or psm"),
        ({"fim": "psm"}, "fim must give"),
        ({"learned": {"step": "3"}}, "learned must count step and tokens"),
        ([], "holds list"),
    ],
)
def test_malformed_foretype_json_is_refused(tmp_path: Path, raw: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        make_facts(tmp_path, raw)


@pytest.mark.parametrize("raw", [{}, {"model": 3}, {"model": {"vocab": {}}, "added_tokens": [3]}])
def test_malformed_tokenizer_is_refused(tmp_path: Path, raw: object) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))

    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        find_special_tokens(tmp_path, {}, Facts())
