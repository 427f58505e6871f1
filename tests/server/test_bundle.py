"""Bundles: what is read, and that each kind of broken bundle gets one error with a way out."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.bundle import (
    EMBEDDED_FOLDER,
    MANIFEST_BYTES,
    MANIFEST_FILE,
    MAX_BYTES,
    MODEL_FILE,
    TOKENIZER_FILE,
    locate_bundle,
    named_bundles,
    read_bundle,
    record_file,
)
from server.errors import BundleError
from server.manifest import (
    FileRecord,
    FimTokens,
    Manifest,
    ModelSpec,
    Quantization,
    SpecialTokens,
    TensorNames,
    manifest_text,
    parse_manifest,
)

SPEC = ModelSpec(n_layer=2, n_head=2, n_kv_head=1, n_embd=32, n_ctx=64, n_vocab=128)
MANIFEST = Manifest(
    name="tiny",
    spec=SPEC,
    layout="fused",
    dtype="int8",
    quantization=Quantization(bits=8, head_bits=8, block_size=32),
    tensors=TensorNames(),
    special_tokens=SpecialTokens(end=0, fim=FimTokens(prefix=1, suffix=2, middle=3, order="psm")),
    license="Apache-2.0",
    source={"architecture": "gpt2"},
    parity={"max_abs_diff": 0.5, "loss_tokens": 511},
)


def make_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle whose graph and tokenizer are a few bytes: nothing here loads them."""
    (folder / "checkpoint").mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"graph")
    (folder / TOKENIZER_FILE).write_bytes(b"{}")
    (folder / "checkpoint/model.safetensors").write_bytes(b"weights")
    names = (MODEL_FILE, TOKENIZER_FILE, "checkpoint/model.safetensors")
    files = {name: record_file(folder / name) for name in names}
    manifest = replace(MANIFEST, files=files, **changes)
    (folder / MANIFEST_FILE).write_text(manifest_text(manifest))
    return folder


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST_FILE
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_manifest_reads_back_equal() -> None:
    assert parse_manifest(manifest_text(MANIFEST), Path(MANIFEST_FILE)) == MANIFEST


def test_bundle_knows_its_files(bundle: Path) -> None:
    read = read_bundle(bundle)

    assert read.model_path.read_bytes() == b"graph"
    assert read.tokenizer_path.read_bytes() == b"{}"
    assert read.checkpoint_path == bundle / "checkpoint"


def test_bundle_without_weights_has_no_checkpoint(bundle: Path) -> None:
    edit_manifest(bundle, lambda raw: raw["files"].pop("checkpoint/model.safetensors"))

    assert read_bundle(bundle).checkpoint_path is None


def test_embedded_bundle_is_whole() -> None:
    embedded = read_bundle(EMBEDDED_FOLDER)

    assert embedded.checkpoint_path is not None
    assert embedded.manifest.parity["loss_difference"] < 0.05


def test_empty_name_means_the_embedded_bundle() -> None:
    assert locate_bundle("") == EMBEDDED_FOLDER


def test_bundle_is_found_by_path_and_by_name(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.bundle.models_folder", lambda: bundle.parent)

    assert locate_bundle(str(bundle)) == bundle
    assert locate_bundle(bundle.name) == bundle


def test_the_bundles_with_a_name_are_those_with_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.bundle.models_folder", lambda: tmp_path / "models")
    assert named_bundles() == []
    for name in ("starcoder", "gpt2"):
        make_bundle(tmp_path / "models" / name)
    (tmp_path / "models" / "begun").mkdir()
    assert named_bundles() == ["gpt2", "starcoder"]


@pytest.mark.parametrize("name", ["nothing-here", "~no-such-user/x", "x" * 5000, "a\0b"])
def test_missing_bundle_says_where_it_was_looked_for(name: str) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*python -m export|can't be looked up"):
        locate_bundle(name)


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing.*python -m export"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, "checkpoint/model.safetensors"])
def test_truncated_file_is_named_with_both_sizes(bundle: Path, name: str) -> None:
    n_bytes = (bundle / name).stat().st_size
    with (bundle / name).open("r+b") as file:
        file.truncate(1)

    with pytest.raises(BundleError, match=rf"{re.escape(name)} has 1 bytes.*says {n_bytes}"):
        read_bundle(bundle)


def test_altered_file_is_named_with_both_hashes(bundle: Path) -> None:
    (bundle / MODEL_FILE).write_bytes(b"grafh")

    with pytest.raises(BundleError, match=r"model\.onnx has SHA-256 .*the manifest says .*altered"):
        read_bundle(bundle)


def test_missing_file_is_named(bundle: Path) -> None:
    (bundle / TOKENIZER_FILE).unlink()

    with pytest.raises(BundleError, match=r"tokenizer\.json is missing or a link"):
        read_bundle(bundle)


def test_link_instead_of_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"graph")
    (bundle / MODEL_FILE).unlink()
    (bundle / MODEL_FILE).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match=r"model\.onnx is missing or a link"):
        read_bundle(bundle)


def test_link_on_the_way_to_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "checkpoint").rename(tmp_path / "elsewhere")
    (bundle / "checkpoint").symlink_to(tmp_path / "elsewhere", target_is_directory=True)

    with pytest.raises(BundleError, match="lies outside the bundle's folder"):
        read_bundle(bundle)


def test_bundle_in_a_linked_folder_is_fine(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle, target_is_directory=True)

    assert read_bundle(tmp_path / "link").manifest.name == "tiny"


def test_unreadable_folder_is_a_bundle_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> FileRecord:
        raise PermissionError("no")

    monkeypatch.setattr("server.bundle.record_file", refuse)

    with pytest.raises(BundleError, match="check its permissions"):
        read_bundle(bundle)


def test_newer_format_asks_for_an_upgrade(bundle: Path) -> None:
    edit_manifest(bundle, lambda raw: raw.update(format_version=2, whatever="new"))

    with pytest.raises(BundleError, match=r"format 2, newer than 1.*upgrade Foretype"):
        read_bundle(bundle)


@pytest.mark.parametrize("version", [0, "1", None, 1.5])
def test_other_formats_ask_for_a_new_export(bundle: Path, version: object) -> None:
    edit_manifest(bundle, lambda raw: raw.update(format_version=version))

    with pytest.raises(BundleError, match="expected 1; export the model again"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ('{"name": ', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "holds list, expected an object"),
        ("9" * 5000, "is not JSON"),
        ('{"parity": NaN}', "is not JSON .NaN is no number"),
    ],
)
def test_manifest_that_is_no_json_object_is_refused(bundle: Path, text: str, reason: str) -> None:
    (bundle / MANIFEST_FILE).write_text(text)

    with pytest.raises(BundleError, match=rf"manifest\.json {reason}"):
        read_bundle(bundle)


def test_manifest_in_another_encoding_is_refused(bundle: Path) -> None:
    (bundle / MANIFEST_FILE).write_bytes(b"\xff\xfe{}")

    with pytest.raises(BundleError, match=r"manifest\.json can't be read"):
        read_bundle(bundle)


def test_huge_manifest_is_refused_unread(bundle: Path) -> None:
    with (bundle / MANIFEST_FILE).open("ab") as file:
        file.truncate(MANIFEST_BYTES + 1)

    with pytest.raises(BundleError, match="larger than"):
        read_bundle(bundle)


def test_a_file_too_large_to_be_parsed_is_refused_unread(bundle: Path) -> None:
    n_bytes = MAX_BYTES[TOKENIZER_FILE] + 1
    with (bundle / TOKENIZER_FILE).open("r+b") as file:
        file.truncate(n_bytes)  # Sparse: it takes no place on the disk.
    edit_manifest(bundle, lambda raw: raw["files"][TOKENIZER_FILE].update(n_bytes=n_bytes))
    with pytest.raises(BundleError, match="at most 64000000 are read"):
        read_bundle(bundle)


def put(raw: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split("/")
    for name in parents:
        raw = raw[name]
    raw[last] = value


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("layout", "fuse", "did you mean 'fused'"),
        ("dtype", "int16", "did you mean"),
        ("cache_dtype", "int8", "cache_dtype of the manifest is 'int8'"),
        ("special_tokens/fim/order", "smp", "did you mean 'spm'"),
        ("special_tokens/fim/middle", 128, "outside a vocabulary of 128"),
        ("special_tokens/end", -1, "outside a vocabulary"),
        ("special_tokens/end", "0", "expected int"),
        ("special_tokens/end", True, "expected int"),
        ("special_tokens", None, "special_tokens is NoneType"),
        ("spec/n_layer", 0, "must be a positive size"),
        ("spec/n_embd", 33, "no multiple of n_head"),
        ("spec/n_kv_head", 3, "no multiple of n_kv_head"),
        ("spec/n_head", 2.0, "expected int"),
        ("spec/n_heads", 2, "did you mean 'n_head'"),
        ("spec", [], "spec is list"),
        ("tensors/logits", 3, "expected str"),
        ("quantization", {}, "missing 3 required"),
        ("quantization/bits", "8", "expected int"),
        ("parity/max_abs_diff", "small", "expected float"),
        ("source/architecture", 1, "expected str"),
        ("source", "gpt2", "expected an object"),
        ("files", {}, r"does not list model\.onnx"),
        ("files/model.onnx/sha256", 5, "expected str"),
        ("files/model.onnx/n_bytes", None, "expected int"),
        ("files/model.onnx", {}, "missing 2 required"),
        ("nmae", "x", "did you mean 'name'"),
    ],
)
def test_field_with_no_meaning_is_named(
    bundle: Path, path: str, value: object, reason: str
) -> None:
    edit_manifest(bundle, lambda raw: put(raw, path, value))

    with pytest.raises(BundleError, match=rf"manifest\.json.*{reason}.*export the model again"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret", ""])
def test_file_outside_the_folder_is_refused(bundle: Path, name: str) -> None:
    record = {"sha256": "0", "n_bytes": 0}
    edit_manifest(bundle, lambda raw: raw["files"].update({name: record}))

    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        read_bundle(bundle)


def test_head_width_follows_from_the_sizes_unless_given() -> None:
    assert SPEC.head_width == 16
    assert replace(SPEC, head_dim=24).head_width == 24


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child),
    max_leaves=5,
)
FIELDS = [
    *json.loads(manifest_text(MANIFEST)),
    "spec/n_ctx",
    "special_tokens/fim",
    "special_tokens/fim/order",
    "tensors/past_key",
    "quantization/bits",
    "parity/max_abs_diff",
]


@settings(max_examples=300)
@given(path=st.sampled_from(FIELDS), value=JSON)
def test_no_manifest_raises_anything_but_a_bundle_error(path: str, value: object) -> None:
    raw = json.loads(manifest_text(MANIFEST))
    put(raw, path, value)

    try:
        manifest = parse_manifest(json.dumps(raw), Path(MANIFEST_FILE))
    except BundleError:
        return
    assert parse_manifest(manifest_text(manifest), Path(MANIFEST_FILE)) == manifest
