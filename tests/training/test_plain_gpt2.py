"""A user's own GPT-2, as transformers writes it: no fill-in tokens, no facts beside it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from tests.training.conftest import TEXT
from tests.training.test_finetune import GENERAL, repository_of
from training.cli import main
from training.evaluate import load_named
from training.finetune import finetune


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that `save_pretrained` wrote."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(3)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 128}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.get_vocab_size(), **sizes, **ends))
    network.save_pretrained(folder)
    return folder


def test_its_perplexity_is_the_one_of_transformers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "def pop(self):\n    return self.items.pop(0)  # ä\n"
    (tmp_path / "text.py").write_text(text, encoding="utf-8")
    assert main(["perplexity", str(folder), str(tmp_path / "text.py")]) == 0
    network = GPT2LMHeadModel.from_pretrained(folder).eval()
    own_ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    ids = torch.tensor([[0, *own_ids]])
    with torch.inference_mode():
        loss = network(input_ids=ids, labels=ids).loss.item()
    bits = loss * len(own_ids) / math.log(2) / len(text.encode())
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    assert row[2:4] == [f"{math.exp(loss):.3f}", f"{bits:.3f}"]
    assert row[5] == str(len(own_ids))


def test_it_writes_from_left_to_right_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(folder), "--prompt", "def ", "--length", "3"]) == 0
    assert capsys.readouterr().out.startswith("def ")
    assert main(["generate", str(folder), "--prompt", "x", "--suffix", "\n"]) == 1
    assert "the tokenizer has no <|fim_prefix|>" in capsys.readouterr().err


def test_it_learns_a_users_code(folder: Path) -> None:
    base = load_named("own", folder)
    assert base.order is None
    tuned = finetune(
        base,
        repository_of(100),
        method="full",
        minutes=0.02,
        n_threads=1,
        general=(GENERAL, GENERAL),
    )
    assert tuned.after.own.bits_per_byte < tuned.before.own.bits_per_byte
