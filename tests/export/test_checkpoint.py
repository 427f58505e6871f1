"""Checkpoints: untrusted input, refused in one sentence wherever something is wrong with it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint import exportable_architectures, load_model, read_checkpoint, read_weights
from server.errors import CheckpointError, UnsupportedModelError

EditConfig = Callable[..., None]
WEIGHTS = "model.safetensors"


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_sizes_and_source_are_read(checkpoint: Path) -> None:
    read = read_checkpoint(checkpoint)

    assert (read.architecture, read.source) == ("gpt2", "gpt2")
    assert (read.spec.n_layer, read.spec.n_head, read.spec.n_kv_head) == (2, 4, 4)
    assert (read.spec.n_embd, read.spec.n_ctx, read.spec.n_vocab) == (64, 96, 264)


@pytest.mark.parametrize(
    ("architecture", "n_kv_head"), [("gpt_bigcode", 1), ("gpt_neox", 4), ("llama", 2), ("qwen2", 2)]
)
def test_each_architecture_s_names_become_gpt_2_s(
    make_checkpoint: Callable[..., Path], architecture: str, n_kv_head: int
) -> None:
    spec = read_checkpoint(make_checkpoint(architecture)).spec

    assert (spec.n_layer, spec.n_head, spec.n_kv_head) == (2, 4, n_kv_head)
    assert (spec.n_embd, spec.n_ctx, spec.head_width) == (64, 96, 16)


def test_head_width_of_its_own_is_kept(make_checkpoint: Callable[..., Path]) -> None:
    assert read_checkpoint(make_checkpoint("llama", head_dim=24)).spec.head_width == 24


def test_weights_are_those_of_the_file_without_the_tied_head(checkpoint: Path) -> None:
    weights = read_weights(read_checkpoint(checkpoint))

    assert "lm_head.weight" not in weights
    stored = load_file(checkpoint / WEIGHTS)
    assert set(weights) == set(stored)
    assert all(torch.equal(weights[name], stored[name]) for name in weights)


def test_model_computes_as_transformers_own_loading(checkpoint: Path) -> None:
    from transformers import GPT2LMHeadModel

    read = read_checkpoint(checkpoint)
    token_ids = torch.arange(20)[None]

    with torch.inference_mode():
        found = load_model(read, read_weights(read))(token_ids).logits
        wanted = GPT2LMHeadModel.from_pretrained(checkpoint).eval()(token_ids).logits

    torch.testing.assert_close(found, wanted)


def test_weights_saved_without_a_head_are_found(own_checkpoint: Path) -> None:
    """OpenAI's own GPT-2 on the Hub names its tensors `h.0...`, and carries mask buffers."""

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 96, 96)
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()

    edit_weights(own_checkpoint, rename)

    weights = read_weights(read_checkpoint(own_checkpoint))

    assert "transformer.h.0.attn.c_attn.weight" in weights
    assert "transformer.h.0.attn.bias" not in weights


def test_weights_in_several_files_are_read_together(own_checkpoint: Path) -> None:
    tensors = load_file(own_checkpoint / WEIGHTS)
    (own_checkpoint / WEIGHTS).unlink()
    shards = {"model-1.safetensors": list(tensors)[::2], "model-2.safetensors": list(tensors)[1::2]}
    weight_map = {}
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, own_checkpoint / file)
        weight_map |= dict.fromkeys(names, file)
    index = own_checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))

    assert set(read_weights(read_checkpoint(own_checkpoint))) == set(tensors)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "gone.safetensors"])
def test_index_naming_a_file_elsewhere_is_refused(own_checkpoint: Path, name: str) -> None:
    (own_checkpoint / WEIGHTS).unlink()
    index = own_checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": name}}))

    with pytest.raises(CheckpointError, match="no file beside it"):
        read_checkpoint(own_checkpoint)


class Bomb:
    """A pickle that fails the test if anything ever loads it."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickle_is_refused_unread(own_checkpoint: Path, name: str) -> None:
    (own_checkpoint / WEIGHTS).unlink()
    (own_checkpoint / name).write_bytes(pickle.dumps(Bomb()))

    with pytest.raises(CheckpointError, match=rf"{name} is a pickle.*convert it"):
        read_checkpoint(own_checkpoint)


def test_pickle_beside_safetensors_is_ignored(own_checkpoint: Path) -> None:
    (own_checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))

    read_weights(read_checkpoint(own_checkpoint))


@pytest.mark.parametrize("n_bytes", [0, 7, 100, 20_000])
def test_truncated_weights_are_refused(own_checkpoint: Path, n_bytes: int) -> None:
    with (own_checkpoint / WEIGHTS).open("r+b") as file:
        file.truncate(n_bytes)

    with pytest.raises(CheckpointError, match=r"model\.safetensors can't be read .*copy it again"):
        read_weights(read_checkpoint(own_checkpoint))


def test_altered_header_is_refused(own_checkpoint: Path) -> None:
    with (own_checkpoint / WEIGHTS).open("r+b") as file:
        file.seek(8)
        file.write(b"}{")

    with pytest.raises(CheckpointError, match=r"model\.safetensors can't be read"):
        read_weights(read_checkpoint(own_checkpoint))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda t: t.pop("transformer.ln_f.bias"), r"1 missing \['transformer\.ln_f\.bias'\]"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown"),
        (
            lambda t: t.update({"transformer.ln_f.bias": torch.zeros(65)}),
            r"ln_f\.bias .* has shape \[65\], its config\.json says \[64\]",
        ),
        (
            lambda t: t["transformer.ln_f.bias"].fill_(float("nan")),
            r"ln_f\.bias .* not finite",
        ),
    ],
)
def test_tensor_that_does_not_fit_is_named(
    own_checkpoint: Path, edit: Callable[[Any], object], reason: str
) -> None:
    edit_weights(own_checkpoint, edit)

    with pytest.raises(CheckpointError, match=reason):
        read_weights(read_checkpoint(own_checkpoint))


def test_unknown_architecture_lists_what_can_be_exported(
    own_checkpoint: Path, edit_config: EditConfig
) -> None:
    edit_config(model_type="gpt2_xl")

    with pytest.raises(
        UnsupportedModelError, match=r"'gpt2_xl'.*did you mean 'gpt2'.*llama.*qwen2"
    ):
        read_checkpoint(own_checkpoint)


@pytest.mark.parametrize("architecture", ["clip", "vit"])
def test_architecture_that_writes_no_text_is_refused(
    own_checkpoint: Path, edit_config: EditConfig, architecture: str
) -> None:
    edit_config(model_type=architecture)

    with pytest.raises(UnsupportedModelError, match=r"is no causal language model; .*gpt2"):
        read_checkpoint(own_checkpoint)


def test_fused_and_portable_architectures_are_listed() -> None:
    assert {"gpt2", "gpt_bigcode", "gpt_neox", "llama", "qwen2"} <= set(exportable_architectures())


@pytest.mark.parametrize(
    "fields",
    [
        {"_attn_implementation_internal": "somebody/kernels"},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}},
        {"_name_or_path": "somebody/checkpoint", "attn_implementation": "somebody/kernels"},
    ],
)
def test_field_that_could_choose_code_never_reaches_transformers(
    own_checkpoint: Path, edit_config: EditConfig, fields: dict[str, Any]
) -> None:
    """Regression for a class of holes such as CVE-2026-4372: a config field that fetches code."""
    edit_config(**fields)

    assert not set(fields) & set(read_checkpoint(own_checkpoint).config)


@pytest.mark.parametrize("value", ["../../etc/passwd", "https://example.org", "a\nb"])
def test_name_that_is_a_path_or_address_is_refused(
    own_checkpoint: Path, edit_config: EditConfig, value: str
) -> None:
    edit_config(activation_function=value)

    with pytest.raises(CheckpointError, match="which is no plain name"):
        read_checkpoint(own_checkpoint)


@pytest.mark.parametrize(
    "fields", [{"n_head": 0}, {"n_head": 3}, {"n_embd": "wide"}, {"n_layer": -1}]
)
def test_sizes_that_make_no_network_are_refused(
    own_checkpoint: Path, edit_config: EditConfig, fields: dict[str, Any]
) -> None:
    edit_config(**fields)

    with pytest.raises(UnsupportedModelError, match="no sizes of a decoder"):
        read_checkpoint(own_checkpoint)


def test_quantized_weights_are_refused(own_checkpoint: Path, edit_config: EditConfig) -> None:
    edit_config(quantization_config={"quant_method": "gptq"})

    with pytest.raises(UnsupportedModelError, match="export the original checkpoint"):
        read_checkpoint(own_checkpoint)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json"])
def test_missing_file_is_named(own_checkpoint: Path, name: str) -> None:
    (own_checkpoint / name).unlink()

    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        read_checkpoint(own_checkpoint)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"n_layer": 2}', "\x00"])
def test_malformed_config_is_refused(own_checkpoint: Path, text: str) -> None:
    (own_checkpoint / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(own_checkpoint)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no folder"):
        read_checkpoint(tmp_path / "nothing")
