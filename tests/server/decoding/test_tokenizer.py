"""The tokenizer: no byte is lost, no special token comes from text, increments equal fresh ones."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.bundle import EMBEDDED_FOLDER
from server.decoding.encoders import IncrementalEncoder, ParagraphEncoder
from server.decoding.tokenizer import Detokenizer, Tokenizer
from server.errors import BundleError

CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
SPLIT = {"type": "Split", "pattern": {"Regex": CL100K}, "behavior": "Isolated", "invert": False}
PRE_TOKENIZERS: dict[str, Any] = {
    "gpt2": BYTE_LEVEL | {"use_regex": True},
    "cl100k": {
        "type": "Sequence",
        "pretokenizers": [SPLIT, BYTE_LEVEL | {"use_regex": False}],
    },
    "starcoder": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            BYTE_LEVEL | {"use_regex": True},
        ],
    },
    "unsplit": BYTE_LEVEL | {"use_regex": False},
}
RESUMABLE = {"gpt2", "cl100k", "starcoder"}
END = 0
SAMPLE = '''def add(left, right):
    """Add 12 numbers, don't 'wait'."""
    if left is None:

        return right  # naïve 漢字 😀
    total = left + right
    return total\r
class Thing(object):
\tvalue = [1, 22, 333, 4444]


    \n  \ndef other(self):  return self.add(1,  2)
'''


@cache
def make_tokenizer(kind: str, n_vocab: int = 400) -> Tokenizer:
    """Train a small vocabulary on the sample."""
    return Tokenizer(trained_json(kind), n_vocab)


@cache
def trained_json(kind: str) -> str:
    from tokenizers import Tokenizer as Trained
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    raw = json.loads(tokenizer.to_str())
    raw["pre_tokenizer"] = PRE_TOKENIZERS[kind]
    tokenizer = Trained.from_str(json.dumps(raw))
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SAMPLE] * 3, trainer)
    return str(tokenizer.to_str())


def metaspace_json() -> str:
    """A vocabulary of characters with byte fallback, as SentencePiece makes them."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdefx=(), 1", "▁x", "ab"]
    raw = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": pieces[i],
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for i in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "ByteFallback"},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
            "merges": ["▁ x", "a b"],
        },
    }
    return json.dumps(raw)


def spelled(tokenizer: Tokenizer, text: str) -> bytes:
    return b"".join(tokenizer.token_bytes[i] for i in tokenizer.encode(text))


def added_token(content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "special", "normalized"), False)
    return {"id": 400, "content": content} | flags


PIECES = st.sampled_from(
    [
        *("a", "b9", "_x", " ", "  ", "\n", "\n    ", "\n\n", "\r\n", "(", "):", "'ll", "123", "."),
        *("é", "漢", "😀", "\t", "\x85"),
        *SAMPLE.splitlines(keepends=True),
    ]
)
LINES = st.lists(PIECES, max_size=12).map("".join)
TEXTS = LINES | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), LINES), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
@given(text=TEXTS)
@settings(max_examples=60)
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(kind: str, text: str) -> None:
    assert spelled(make_tokenizer(kind), text) == text.encode()


@given(text=TEXTS.filter(lambda text: "▁" not in text))
@settings(max_examples=60)
def test_a_vocabulary_with_space_marks_and_byte_fallback_loses_nothing(text: str) -> None:
    assert spelled(Tokenizer(metaspace_json(), 300), text) == text.encode()


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
@given(text=LINES, edits=EDITS)
@settings(max_examples=200)
def test_encoding_after_edits_equals_a_fresh_encoding(
    kind: str, text: str, edits: list[tuple[float, int, str]]
) -> None:
    tokenizer = make_tokenizer(kind)
    encoder = IncrementalEncoder(tokenizer)
    assert encoder.encode(text) == tokenizer.encode(text)
    for where, n_deleted, inserted in edits:
        start = round(where * len(text))
        text = text[:start] + inserted + text[start + n_deleted :]
        assert encoder.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_typing_a_file_character_by_character_equals_fresh_encodings(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    encoder = IncrementalEncoder(tokenizer)
    for end in range(len(SAMPLE) + 1):
        assert encoder.encode(SAMPLE[:end]) == tokenizer.encode(SAMPLE[:end])


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_only_the_end_of_a_long_text_is_encoded_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tokenizer(kind)
    encoder = IncrementalEncoder(tokenizer)
    encoder.encode(SAMPLE * 20)
    encoded = []
    fresh = tokenizer.encode_words
    monkeypatch.setattr(tokenizer, "encode_words", lambda text: encoded.append(text) or fresh(text))
    encoder.encode(SAMPLE * 20 + "x")
    assert (len(encoded[0]) < 200) == (kind in RESUMABLE)


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
@given(parts=st.lists(st.lists(PIECES, max_size=4).map("".join), max_size=6), text=TEXTS)
@settings(max_examples=200)
def test_encoding_paragraph_by_paragraph_equals_a_fresh_encoding(
    kind: str, parts: list[str], text: str
) -> None:
    tokenizer = make_tokenizer(kind)
    encoder = ParagraphEncoder(tokenizer)
    for whole in ("\n\n".join(parts), text, "\n\n".join([*parts, text])):
        assert encoder.encode(whole).tolist() == tokenizer.encode(whole)


def test_only_paragraphs_that_are_new_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer("gpt2")
    encoder = ParagraphEncoder(tokenizer)
    paragraphs = [f"def f{n}():\n    return {n}\n\n\n" for n in range(40)]
    encoder.encode("".join(paragraphs))
    encoded: list[str] = []
    for name in ("encode_aside", "encode_words"):
        fresh = getattr(tokenizer, name)
        monkeypatch.setattr(
            tokenizer, name, lambda text, fresh=fresh: encoded.append(text) or fresh(text)
        )
    encoder.encode("".join(paragraphs[10:20]) + "x = 1")
    assert set(encoded) <= {"x = 1", paragraphs[19] + "x", "x"}
    encoded.clear()
    encoder.encode("".join(paragraphs[10:20]) + "x = 12")
    assert encoded == ["x = 12"]


@pytest.mark.parametrize(
    ("change", "can_resume"),
    [
        ({}, True),
        ({"pre_tokenizer": None}, False),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}}, False),
        ({"pre_tokenizer": SPLIT | {"pattern": {"Regex": r"(?<=a)b|\n"}}}, False),
        ({"pre_tokenizer": SPLIT | {"behavior": "MergedWithNext"}}, False),
        ({"pre_tokenizer": SPLIT | {"pattern": {"String": " "}}}, False),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, SPLIT]}}, False),
        ({"added_tokens": [added_token("\n\nHuman")]}, False),
    ],
)
def test_splits_that_may_depend_on_earlier_text_are_never_resumed(
    change: dict[str, Any], can_resume: bool
) -> None:
    raw = json.loads(trained_json("gpt2")) | change
    assert Tokenizer(json.dumps(raw), 400).can_resume == can_resume


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_a_special_token_never_comes_from_text(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    text = "print('<|endoftext|>')"
    assert END not in tokenizer.encode(text)
    assert spelled(tokenizer, text) == text.encode()
    assert tokenizer.token_bytes[END] == b""


def test_the_text_of_a_special_token_is_encoded_as_any_other() -> None:
    tokenizer = Tokenizer.from_file(EMBEDDED_FOLDER / "tokenizer.json", 8192)
    pieces = [tokenizer.token_bytes[token] for token in tokenizer.encode("<|endoftext|>")]
    assert b"".join(pieces) == b"<|endoftext|>"
    assert len(pieces) > 1  # The special token itself has no bytes.


def test_a_token_that_the_bundle_calls_special_never_comes_from_text() -> None:
    """The tokenizer itself may know it as a plain word, as `x` is here."""
    x = make_tokenizer("gpt2").encode("x")[0]
    tokenizer = Tokenizer(trained_json("gpt2"), 400, special_ids=[x])
    assert x not in tokenizer.encode("x = x")
    assert tokenizer.token_bytes[x] == b""


def test_tokens_beyond_the_networks_vocabulary_are_spelled_in_bytes() -> None:
    wide, narrow = make_tokenizer("gpt2"), make_tokenizer("gpt2", n_vocab=300)
    assert max(wide.encode(SAMPLE)) >= 300
    assert max(narrow.encode(SAMPLE)) < 300
    assert spelled(narrow, SAMPLE) == SAMPLE.encode()
    encoder = IncrementalEncoder(narrow)
    encoder.encode(SAMPLE[:-9])
    assert encoder.encode(SAMPLE) == narrow.encode(SAMPLE)


def test_ids_that_the_tokenizer_does_not_know_have_no_bytes() -> None:
    tokenizer = make_tokenizer("gpt2", n_vocab=1000)
    assert len(tokenizer.token_bytes) == 1000
    assert not any(tokenizer.token_bytes[400:])


def test_no_space_is_put_before_the_text_and_no_character_is_normalized() -> None:
    raw = json.loads(trained_json("gpt2"))
    raw["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}],
    }
    text = "Cafe\N{COMBINING ACUTE ACCENT}"
    assert spelled(Tokenizer(json.dumps(raw), 400), text) == text.encode()


def test_the_embedded_tokenizer_gives_the_ids_that_the_network_was_trained_on() -> None:
    tokenizer = Tokenizer.from_file(EMBEDDED_FOLDER / "tokenizer.json", 8192)
    from tokenizers import Tokenizer as Reference

    reference = Reference.from_file(str(EMBEDDED_FOLDER / "tokenizer.json"))
    source = Path(__file__).read_text(encoding="utf-8").replace("<|", "<")
    assert tokenizer.encode(source) == reference.encode(source).ids
    assert tokenizer.can_resume


@pytest.mark.parametrize("kind", PRE_TOKENIZERS)
def test_text_comes_back_token_by_token_without_half_characters(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    text = "naïve 漢字 😀\n  é"
    detokenizer = Detokenizer(tokenizer.token_bytes)
    pieces = [detokenizer.add(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert "" in pieces
    assert "\ufffd" not in "".join(pieces)


def test_skipped_bytes_do_not_come_back() -> None:
    tokenizer = make_tokenizer("gpt2")
    detokenizer = Detokenizer(tokenizer.token_bytes, n_skipped=len("def ad"))
    text = "".join(detokenizer.add(token) for token in tokenizer.encode("def add(left"))
    assert text == "d(left"


def test_line_ends_come_back_as_lf() -> None:
    detokenizer = Detokenizer([b"a\r", b"\nb", b"\rc"])
    assert [detokenizer.add(i) for i in (0, 1, 2)] == ["a", "\nb", "\nc"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"type": "BPE"}}', "\x80", "null"])
def test_a_file_that_is_no_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match="export the model again"):
        Tokenizer.from_file(path, 10)


def test_the_library_is_loaded_only_when_a_tokenizer_is() -> None:
    script = "import sys, server.decoding.tokenizer; print('tokenizers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
