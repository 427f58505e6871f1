"""Whole exports: what a bundle holds, that backends serve it, that nothing half-done is left."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint import read_checkpoint, read_weights
from export.fused import build_fused
from export.fused_options import FusedOptions
from export.pipeline import ExportOptions, export_bundle
from server.backends.contract import Backend, BackendOptions
from server.backends.ort import OrtBackend
from server.bundle import MEMORY_FILE, Bundle, read_bundle
from server.decoding.memory.coefficients import (
    Coefficients,
    coefficients_text,
    read_coefficients,
)
from server.errors import (
    BundleError,
    CheckpointError,
    CompletionServerError,
    OptionsError,
    ParityError,
    UnsupportedModelError,
)
from server.manifest import FimTokens, Quantization

MakeCheckpoint = Callable[..., Path]


def export(model: Path, output: Path, **options: Any) -> Bundle:
    export_bundle(ExportOptions(model=str(model), output=output, **options), lambda _step: None)
    return read_bundle(output)


def greedy(backend: Backend, n_tokens: int) -> list[int]:
    """Decode from a fixed prompt, always the likeliest token."""
    cache = backend.new_cache()
    logits = backend.forward([10, 20, 30, 40], cache)
    token_ids = []
    for _ in range(n_tokens):
        token_ids.append(int(np.argmax(logits[-1])))
        logits = backend.forward(token_ids[-1:], cache)
    return token_ids


def test_bundle_takes_along_how_much_the_memory_counts(
    own_checkpoint: Path, tmp_path: Path
) -> None:
    fitted = Coefficients(nearness=(4.0, 3.0, 2.0, 1.5, 1.0))
    (own_checkpoint / MEMORY_FILE).write_text(coefficients_text(fitted))
    bundle = export(own_checkpoint, tmp_path / "bundle")
    assert bundle.memory_path is not None
    assert read_coefficients(bundle.memory_path.read_text()) == fitted

    (own_checkpoint / MEMORY_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="calibrate"):
        export(own_checkpoint, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_bundle_says_what_it_is_and_where_it_comes_from(
    own_checkpoint: Path, tmp_path: Path
) -> None:
    fim = {"prefix": "<|fim_prefix|>", "suffix": "<|fim_suffix|>", "middle": "<|fim_middle|>"}
    facts = {"fim": fim | {"order": "spm"}, "license": "MIT", "card": "made by a test"}
    (own_checkpoint / "foretype.json").write_text(json.dumps(facts))

    manifest = export(own_checkpoint, tmp_path / "bundle", name="tiny").manifest

    assert (manifest.name, manifest.layout, manifest.dtype) == ("tiny", "fused", "int8")
    assert manifest.quantization == Quantization(bits=8, head_bits=8, block_size=32)
    assert manifest.special_tokens.end == 256
    assert manifest.special_tokens.fim == FimTokens(prefix=257, suffix=258, middle=259, order="spm")
    assert manifest.license == "MIT"
    assert manifest.source == {
        "architecture": "gpt2",
        "checkpoint": "own",
        "revision": "",
        "card": "made by a test",
    }
    assert 0 < manifest.parity["prefill_relative_error"] < 0.05


def test_files_of_a_bundle_are_all_recorded(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle")

    found = {p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*.*")}
    assert found == {"manifest.json", *bundle.manifest.files}
    assert set(bundle.manifest.files) == {
        "model.onnx",
        "tokenizer.json",
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
    }


def test_checkpoint_in_a_bundle_reads_as_the_one_it_came_from(
    own_checkpoint: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(_attn_implementation_internal="somebody/kernels")
    bundle = export(own_checkpoint, tmp_path / "bundle")

    assert bundle.checkpoint_path is not None
    config = json.loads((bundle.checkpoint_path / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert "_attn_implementation_internal" not in config
    (bundle.checkpoint_path / "tokenizer.json").write_bytes(bundle.tokenizer_path.read_bytes())
    original, copied = read_checkpoint(own_checkpoint), read_checkpoint(bundle.checkpoint_path)
    assert copied.config == original.config
    assert read_weights(copied).keys() == read_weights(original).keys()


def test_facts_of_a_checkpoint_travel_with_its_weights(
    own_checkpoint: Path, tmp_path: Path
) -> None:
    facts = '{"license": "MIT", "learned": {"step": 12, "tokens": 768}}'
    (own_checkpoint / "foretype.json").write_text(facts, encoding="utf-8")
    bundle = export(own_checkpoint, tmp_path / "bundle")

    assert bundle.checkpoint_path is not None
    assert (bundle.checkpoint_path / "foretype.json").read_text(encoding="utf-8") == facts
    assert "checkpoint/foretype.json" in bundle.manifest.files


def test_checkpoint_can_be_left_out(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle", with_checkpoint=False)

    assert bundle.checkpoint_path is None
    assert not (bundle.folder / "checkpoint").exists()


def test_architecture_without_a_fused_graph_becomes_portable(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    manifest = export(make_checkpoint("llama"), tmp_path / "bundle").manifest

    assert (manifest.layout, manifest.dtype, manifest.quantization) == ("portable", "fp32", None)
    assert manifest.parity["equal_token_share"] == 1


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_bigcode"])
def test_both_layouts_and_pytorch_decode_the_same_tokens(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, architecture: str
) -> None:
    from server.backends.pytorch import PyTorchBackend

    folder = make_checkpoint(architecture)
    fused = export(folder, tmp_path / "fused", layout="fused", dtype="fp32")
    portable = export(folder, tmp_path / "portable", layout="portable")
    options = BackendOptions(device="cpu")

    wanted = greedy(PyTorchBackend.load(fused, options), 64)

    assert len(set(wanted)) > 1
    assert greedy(OrtBackend.load(fused, options), 64) == wanted
    assert greedy(OrtBackend.load(portable, options), 64) == wanted


def test_bundle_without_output_goes_to_the_user_s_models(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.pipeline.models_folder", lambda: tmp_path)

    report = export_bundle(ExportOptions(model=str(checkpoint)), lambda _step: None)

    assert report.folder == tmp_path / "gpt2"
    assert read_bundle(tmp_path / "gpt2").manifest == report.manifest


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"dtype": "fp16"}, OptionsError, "add --device cuda"),
        ({"dtype": "fp32", "device": "cuda"}, OptionsError, "fp16, int8 or int4"),
        ({"dtype": "int8", "layout": "portable"}, OptionsError, "need --layout fused"),
        ({"revision": "main"}, OptionsError, "--revision is for the Hub"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    checkpoint: Path,
    tmp_path: Path,
    options: dict[str, Any],
    error: type[CompletionServerError],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        export(checkpoint, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_name_that_is_neither_folder_nor_hub_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*nothing/at/all"):
        export(tmp_path / "nothing/at/all", tmp_path / "bundle")


def test_output_with_other_things_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(OptionsError, match="exists and is no bundle"):
        export(checkpoint, tmp_path)


def test_graph_beyond_one_file_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.pipeline.GRAPH_BYTES", 100_000)

    with pytest.raises(UnsupportedModelError, match=r"more than the .* one file can hold"):
        export(checkpoint, tmp_path / "bundle")


def test_tokenizer_of_another_checkpoint_is_refused(own_checkpoint: Path, tmp_path: Path) -> None:
    raw = json.loads((own_checkpoint / "tokenizer.json").read_text())
    raw["added_tokens"].append(raw["added_tokens"][0] | {"id": 500, "content": "<far>"})
    raw["added_tokens"] += [
        raw["added_tokens"][0] | {"id": 300 + i, "content": f"<{i}>"} for i in range(9)
    ]
    (own_checkpoint / "tokenizer.json").write_text(json.dumps(raw))

    with pytest.raises(CheckpointError, match=r"270 tokens, config\.json says 264"):
        export(own_checkpoint, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_full_disk_leaves_nothing_and_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_graph: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("onnx.save", fill)

    with pytest.raises(BundleError, match=r"No space left.*nothing was left behind: make room"):
        export(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exception", [ParityError("decode", 1.0, 1e-5), KeyboardInterrupt()])
def test_broken_off_export_leaves_the_bundle_that_was_there(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exception: BaseException,
) -> None:
    before = export(checkpoint, tmp_path / "bundle").manifest

    def fail(*_args: object) -> None:
        raise exception

    monkeypatch.setattr("export.validate.measure_parity", fail)

    with pytest.raises(type(exception)):
        export(checkpoint, tmp_path / "bundle", dtype="int4")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert read_bundle(tmp_path / "bundle").manifest == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gpt2_of_124_million_weights_agrees_in_both_layouts(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from server.backends.pytorch import PyTorchBackend

    sizes = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024}
    folder = make_checkpoint(**sizes, vocab_size=50257, initializer_range=0.02)
    fused = export(folder, tmp_path / "fused", layout="fused", dtype="fp32")
    portable = export(folder, tmp_path / "portable", layout="portable", with_checkpoint=False)
    steps = [f"{step}_relative_error" for step in ("prefill", "decode", "chunk", "rewind")]
    for bundle in (fused, portable):
        assert max(bundle.manifest.parity[step] for step in steps) <= 1e-5
    options = BackendOptions(device="cpu", n_threads=2)
    wanted = greedy(PyTorchBackend.load(fused, options), 64)
    for bundle in (fused, portable):
        assert greedy(OrtBackend.load(bundle, options), 64) == wanted

    read = read_checkpoint(folder)
    arrays = {name: tensor.numpy() for name, tensor in read_weights(read).items()}
    int8 = build_fused("gpt2", read.config, read.spec, arrays, FusedOptions(dtype="int8"))
    assert int8.ByteSize() < 143.5e6
