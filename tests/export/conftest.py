"""Tiny random checkpoints, made here: no network, no weights from elsewhere."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import byte_tokenizer_json

with warnings.catch_warnings():
    # Importing it calls torch.jit.script, deprecated in torch 2.13; transformers 4.55.4 still does.
    warnings.simplefilter("ignore", DeprecationWarning)
    import transformers.models.gpt_bigcode.modeling_gpt_bigcode  # noqa: F401

# The networks here are tiny: threads would only wait for each other, for long on a busy machine.
torch.set_num_threads(1)

N_VOCAB = 264  # the 260 tokens of the byte tokenizer, and four that it never gives
GPT2_SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 96}
LLAMA_SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 96,
}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2_SIZES,
    "gpt_bigcode": GPT2_SIZES,
    "gpt_neox": LLAMA_SIZES,
    "llama": LLAMA_SIZES | {"num_key_value_heads": 2},
    "qwen2": LLAMA_SIZES | {"num_key_value_heads": 2, "tie_word_embeddings": True},
}
# Wider than any training starts with, so that attention is not uniform and errors are not hidden.
SPREAD = 0.1

MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return a function that writes a random checkpoint, equal for equal arguments."""

    def make(architecture: str = "gpt2", **changes: Any) -> Path:
        from transformers import AutoConfig, AutoModelForCausalLM

        fields = {
            "vocab_size": N_VOCAB,
            "bos_token_id": 256,
            "eos_token_id": 256,
            "initializer_range": SPREAD,
        }
        config = AutoConfig.for_model(architecture, **fields | SIZES[architecture] | changes)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases start at zero, where a forgotten one goes unseen
                parameter.data += SPREAD * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp("checkpoints") / architecture
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(byte_tokenizer_json())
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """A random GPT-2 of two layers; for reading only."""
    return make_checkpoint()


@pytest.fixture
def own_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    """The same, in a copy that a test may spoil."""
    copy = tmp_path / "own"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def edit_config(own_checkpoint: Path) -> Callable[..., None]:
    """Return a function that changes fields of the own checkpoint's config.json."""

    def edit(**changes: Any) -> None:
        path = own_checkpoint / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.fixture(scope="session")
def fp32_bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random GPT-2 as a fused fp32 bundle; for reading only."""
    from export.pipeline import ExportOptions, export_bundle

    folder = tmp_path_factory.mktemp("bundles") / "fp32"
    options = ExportOptions(model=str(checkpoint), output=folder, dtype="fp32")
    export_bundle(options, lambda _step: None)
    return folder
