"""Generation: greedy, sampled, several at once, past the window, on every kind of network."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from training.completers import line_recall, model_completer, ngram_copy
from training.config import ModelConfig
from training.errors import ConfigError
from training.generate import Reader, Sampling, generate_ids
from training.model import build_model
from training.tokenizer import encode


def network(kind: str = "gpt2") -> torch.nn.Module:
    config = ModelConfig(kind=kind, n_layer=2, n_head=2, n_embd=32, n_ctx=32)  # type: ignore[arg-type]
    model = build_model(config, 320, 0, seed=3).eval()
    for param in model.parameters():  # blocks start at zero; a test wants them to matter
        if param.ndim == 2:
            torch.nn.init.normal_(param, std=0.3)
    return model


@pytest.mark.parametrize("kind", ["gpt2", "lstm", "rnn"])
def test_greedy_reading_in_steps_equals_reading_at_once(kind: str) -> None:
    model = network(kind)
    prompt = [5, 9, 200, 31]
    new = generate_ids(model, prompt, max_new_tokens=8)[0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + new]))[0]
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == new


def test_length_number_and_seed_are_what_was_asked_for() -> None:
    model = network()
    hot = Sampling(temperature=1.0, seed=4)
    one = generate_ids(model, [7], max_new_tokens=12, n_sequences=3, sampling=hot)
    again = generate_ids(model, [7], max_new_tokens=12, n_sequences=3, sampling=hot)
    other = generate_ids(
        model, [7], max_new_tokens=12, n_sequences=3, sampling=Sampling(temperature=1.0, seed=5)
    )
    assert [len(s) for s in one] == [12, 12, 12]
    assert one == again != other
    assert one[0] != one[1]


def test_top_k_of_one_and_a_tiny_top_p_are_greedy() -> None:
    model = network()
    greedy = generate_ids(model, [7, 8], max_new_tokens=6)
    for sampling in (Sampling(temperature=1.0, top_k=1), Sampling(temperature=1.0, top_p=1e-6)):
        assert generate_ids(model, [7, 8], max_new_tokens=6, sampling=sampling) == greedy


def test_generation_goes_on_past_the_window() -> None:
    model = network()
    assert len(generate_ids(model, list(range(4, 34)), max_new_tokens=50)[0]) == 50


def test_the_window_is_the_networks_own() -> None:
    assert Reader(network()).n_ctx == 32


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -2}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_sampling_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Sampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["spm", "psm", None])
def test_a_healed_completion_agrees_with_what_was_typed(order: str, tokenizer: Tokenizer) -> None:
    """The last token is backed over and written again; what is returned comes after the cursor."""
    complete = model_completer(network(), tokenizer, order)  # type: ignore[arg-type]
    prefix = "def push(self, ite"
    text = complete(prefix, "\n    pass\n")
    assert "\n" not in text
    assert encode(tokenizer, prefix + text)


def test_line_recall_takes_the_most_recent_line_that_begins_alike() -> None:
    assert line_recall("value = one\nvalue = two\nval", "") == "ue = two"
    assert line_recall("value = one\n", "") == ""
    assert line_recall("x", "") == ""


def test_ngram_copy_goes_on_as_the_longest_match_did() -> None:
    text = "self.items.append(a)\nother.items.append(b)\nself.items."
    assert ngram_copy(text, "") == "append(a)"
    assert ngram_copy("a b", "") == ""
