"""Tiny random networks, exported as users export theirs; each once per session."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.pipeline import ExportOptions, export_bundle
from server.backends.contract import BackendOptions
from server.backends.ort import OrtBackend
from server.bundle import Bundle, read_bundle
from server.errors import BackendUnavailableError
from tests.fakes import byte_tokenizer_json

N_CTX = 48
GPT2 = {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": N_CTX}
LLAMA = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": N_CTX,
}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gpt_neox": LLAMA,
    "llama": LLAMA | {"num_key_value_heads": 2},
    "qwen2": LLAMA | {"num_key_value_heads": 2},
}
MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """Return a function that exports a random network; for reading only."""
    made: dict[tuple[str, str, str], Bundle] = {}

    def make(architecture: str = "gpt2", layout: str = "fused", dtype: str = "fp32") -> Bundle:
        key = (architecture, layout, dtype)
        if key not in made:
            checkpoint = tmp_path_factory.mktemp("checkpoint") / architecture
            write_checkpoint(checkpoint, architecture)
            output = tmp_path_factory.mktemp("bundle") / "-".join(key)
            options = ExportOptions(
                model=str(checkpoint),
                output=output,
                layout=layout,
                dtype=dtype,
                device="cuda" if dtype == "fp16" else "cpu",
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # optimum's and the tracer's own
                export_bundle(options, lambda step: None)
            made[key] = read_bundle(output)
        return made[key]

    return make


def load_or_skip(bundle: Bundle, options: BackendOptions) -> OrtBackend:
    """Load onnxruntime's backend; without the device that is asked for the test is skipped."""
    try:
        return OrtBackend.load(bundle, options)
    except BackendUnavailableError as exc:
        pytest.skip(f"needs a CUDA device: {exc}")


@pytest.fixture
def own_bundle(make_bundle: MakeBundle, tmp_path: Path) -> Bundle:
    """A fused GPT-2 in a copy that a test may spoil."""
    bundle = make_bundle()
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.folder, copy)
    return Bundle(folder=copy, manifest=bundle.manifest)


def write_checkpoint(folder: Path, architecture: str) -> None:
    """Write a random checkpoint with weights large enough that attention is not uniform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers calls what torch has deprecated
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        fields = {"vocab_size": 264, "bos_token_id": 256, "eos_token_id": 256}
        config = AutoConfig.for_model(
            architecture, initializer_range=0.1, **fields, **SIZES[architecture]
        )
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases start at zero, where a forgotten one goes unseen
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer_json())
