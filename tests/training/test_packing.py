"""Texts become packed ids, with a tokenizer that is learned or one that is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.errors import CorpusError
from training.packing import learn_and_pack, open_tokens, pack
from training.tokenizer import special_ids

TEXTS = {"train": ["x = 1\n" * 40, "y = 2\n" * 40], "dev": ["z = 3\n" * 40], "test": []}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a corpus folder of three texts."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, texts in TEXTS.items():
        rows = [json.dumps({"text": text}) + "\n" for text in texts]
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def pack_all(corpus: Path, folder: Path, given: Path | None = None) -> dict[str, object]:
    return learn_and_pack(
        corpus,
        folder,
        n_vocab=300,
        sample_bytes=10_000,
        min_frequency=2,
        seed=1,
        given=given,
    )


def test_every_document_ends_with_the_end_token(corpus: Path, tmp_path: Path) -> None:
    pack_all(corpus, tmp_path / "tokens")
    end = special_ids(Tokenizer.from_file(str(tmp_path / "tokens/tokenizer.json"))).end
    ids = open_tokens(tmp_path / "tokens", "train")
    assert ids.dtype == np.uint16
    assert (ids == end).sum() == len(TEXTS["train"])
    assert ids[-1] == end


def test_the_same_corpus_gives_the_same_tokens(corpus: Path, tmp_path: Path) -> None:
    assert pack_all(corpus, tmp_path / "a") == pack_all(corpus, tmp_path / "b")


def test_a_given_tokenizer_is_used_as_it_is(
    corpus: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    given = tmp_path / "given.json"
    tokenizer.save(str(given))
    record = pack_all(corpus, tmp_path / "tokens", given)
    assert record["n_vocab"] == tokenizer.get_vocab_size()
    packed = open_tokens(tmp_path / "tokens", "dev")
    assert list(packed) == list(pack(tokenizer, TEXTS["dev"], "dev"))


def test_tokens_that_are_not_there_name_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="run the tokenizer command first"):
        open_tokens(tmp_path, "train")
