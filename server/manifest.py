"""What a bundle says of itself, as records and as JSON. Pure: a file's text comes in.

A manifest is untrusted input: every field is of the type that its record declares, and no file name
leaves the bundle's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from server.errors import BundleError, nearest_name

FORMAT_VERSION = 1

Layout = Literal["fused", "portable"]
Dtype = Literal["fp32", "fp16", "int8", "int4"]
FimOrder = Literal["spm", "psm"]
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The sizes of a network, in GPT-2's own words."""

    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    n_ctx: int
    n_vocab: int
    head_dim: int | None = None
    """D where it is not n_embd / n_head, as in Qwen3 and Gemma."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "head_dim" and value is None:
                continue
            if type(value) is not int or not 0 < value < 2**31:
                raise BundleError(f"{name} is {value!r}, must be a positive size")
        if self.head_dim is None and self.n_embd % self.n_head:
            raise BundleError(f"n_embd {self.n_embd} is no multiple of n_head {self.n_head}")
        if self.n_head % self.n_kv_head:
            raise BundleError(f"n_head {self.n_head} is no multiple of n_kv_head {self.n_kv_head}")

    @property
    def head_width(self) -> int:
        """D: the width of one attention head."""
        return self.head_dim or self.n_embd // self.n_head


@dataclass(frozen=True, slots=True, kw_only=True)
class FimTokens:
    """Token ids that mark the parts of a fill-in-the-middle prompt, and the order the model was
    trained for.

    psm: prefix P suffix S middle; spm: prefix suffix S middle P, so that typing only appends.
    Source: Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle",
    arXiv:2207.14255.
    """

    prefix: int
    suffix: int
    middle: int
    order: FimOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Token ids with a meaning; a model without fill-in-the-middle has `fim` None."""

    end: int
    fim: FimTokens | None = None

    @property
    def fim_ids(self) -> frozenset[int]:
        """The three marks of fill-in-the-middle, or none."""
        fim = self.fim
        return frozenset((fim.prefix, fim.suffix, fim.middle) if fim is not None else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Names on the graph's border; `{layer}` stands for the layer's index. An empty name: the
    graph has no such tensor.

    fused: input_ids, position_ids [B, T] int64; seqlens_k [B] = P + T - 1, total_len [1] = P + T,
    both int32;
    logits_from [1] int64; logits, log_probs [B, T - logits_from, V], best_ids, best_log_probs (the
    likeliest token) [B, T - logits_from, 1]; past and present [B, H, M, D], bound to the same
    memory. Several tokens after a past (T > 1, P > 0) need B = 1: onnxruntime's operator takes no
    more.
    portable: input_ids, position_ids [B, T], attention_mask [B, S], all int64; past [B, H, P, D],
    present [B, H, S, D].
    """

    input_ids: str = "input_ids"
    position_ids: str = ""
    attention_mask: str = ""
    seqlens_k: str = ""
    total_len: str = ""
    logits_from: str = ""
    logits: str = "logits"
    log_probs: str = ""
    best_ids: str = ""
    best_log_probs: str = ""
    past_key: str = "past_key_values.{layer}.key"
    past_value: str = "past_key_values.{layer}.value"
    present_key: str = "present.{layer}.key"
    present_value: str = "present.{layer}.value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Weight-only quantization: symmetric blocks of `block_size` weights share one scale."""

    bits: int
    head_bits: int
    """Of the embedding and the head, which lose more by few bits."""
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file of the bundle must be."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle says of itself."""

    name: str
    spec: ModelSpec
    layout: Layout
    dtype: Dtype
    cache_dtype: Literal["fp32", "fp16"] = "fp32"
    quantization: Quantization | None = None
    tensors: TensorNames
    special_tokens: SpecialTokens
    license: str = ""
    source: Mapping[str, str] = field(default_factory=dict)
    """Where the checkpoint came from: architecture, checkpoint name or Hub id, revision."""
    parity: Mapping[str, float] = field(default_factory=dict)
    """Figures of the export's comparison with PyTorch."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def parse_manifest(text: str, path: Path) -> Manifest:
    """Read a manifest from JSON; unknown fields are refused, so that a typing error is seen.

    Raises:
        BundleError: it is no JSON object, of a newer format, or a field is missing, unknown or of
        another type.
    """
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{path} is not JSON ({exc}); export the model again") from exc
    if not isinstance(raw, dict):
        raise BundleError(
            f"{path} holds {type(raw).__name__}, expected an object; export the model again"
        )
    version = raw.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format {version}, newer than {FORMAT_VERSION}, the newest that this "
            "Foretype reads; upgrade Foretype"
        )
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format {version!r}, expected {FORMAT_VERSION}; export the model again"
        )
    try:
        return _manifest_from(raw)
    except BundleError as exc:
        raise BundleError(f"{path} is malformed: {exc}; export the model again") from exc


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as JSON that `parse_manifest` reads back equal."""
    return json.dumps(asdict(manifest), indent=2) + "\n"


def _manifest_from(raw: dict[str, Any]) -> Manifest:
    special = _object(raw.get("special_tokens"), "special_tokens")
    if special.get("fim") is not None:
        special["fim"] = _record_from(FimTokens, special["fim"], "fim")
    quantization = raw.get("quantization")
    if quantization is not None:
        quantization = _record_from(Quantization, quantization, "quantization")
    files = {
        _checked_name(name): _record_from(FileRecord, record, f"files[{name!r}]")
        for name, record in _object(raw.get("files"), "files").items()
    }
    fields = raw | {
        "spec": _record_from(ModelSpec, raw.get("spec"), "spec"),
        "special_tokens": _record_from(SpecialTokens, special, "special_tokens"),
        "tensors": _record_from(TensorNames, raw.get("tensors"), "tensors"),
        "quantization": quantization,
        "files": files,
    }
    manifest = _record_from(Manifest, fields, "the manifest")
    _check_token_ids(manifest)
    return manifest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _object(raw: object, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise BundleError(f"{where} is {type(raw).__name__}, expected an object")
    return dict(raw)


def _record_from(kind: type[Record], raw: object, where: str) -> Record:
    """Build a record from a JSON object, each field of the type that the record declares."""
    values = _object(raw, where)
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise BundleError(f"{where} has the field {name!r}{nearest_name(name, hints)}")
        _check_type(f"{name} of {where}", value, hints[name])
    try:
        return kind(**values)
    except TypeError as exc:  # names the fields that are missing
        raise BundleError(f"{where}: {exc}") from exc


def _check_type(where: str, value: object, hint: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise BundleError(f"{where} is {value!r}{nearest_name(str(value), get_args(hint))}")
        return
    if get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise BundleError(f"{where} is {value!r}, expected an object")
        for key, item in value.items():
            _check_type(f"{key} in {where}", item, get_args(hint)[1])
        return
    kinds = get_args(hint) or (hint,)  # a union, or one type
    kinds += (int,) if float in kinds else ()
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise BundleError(f"{where} is {value!r}, expected {names}")


def _check_token_ids(manifest: Manifest) -> None:
    fim = manifest.special_tokens.fim
    ids = {"end": manifest.special_tokens.end}
    if fim is not None:
        ids |= {"fim.prefix": fim.prefix, "fim.suffix": fim.suffix, "fim.middle": fim.middle}
    for name, token in ids.items():
        if not 0 <= token < manifest.spec.n_vocab:
            raise BundleError(
                f"{name} is token {token}, outside a vocabulary of {manifest.spec.n_vocab}"
            )


def _checked_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise BundleError(f"file name {name!r} leaves the bundle's folder")
    return name
