"""The bundle: an exported, servable folder, read and checked. The only home of its file names.

    manifest.json            `server.manifest.Manifest`, with the SHA-256 of every other file
    model.onnx               the graph
    tokenizer.json           read by the `tokenizers` library
    memory.json              how much the memory of the workspace counts; may be absent
    checkpoint/              config.json and model.safetensors, for the PyTorch fallback; may be
    absent

Does not know what runs the graph. A bundle is untrusted input: JSON, ONNX and safetensors only, no
links, no file outside the folder, nothing that the manifest doesn't list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from server.errors import BundleError
from server.manifest import FileRecord, Manifest, parse_manifest

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MEMORY_FILE = "memory.json"
CHECKPOINT_FOLDER = "checkpoint"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
MANIFEST_BYTES = 4_000_000  # far above any real manifest; a larger one is no manifest
MAX_BYTES = {
    MODEL_FILE: 2**31,  # protobuf reads no more, and external data is refused
    TOKENIZER_FILE: 64_000_000,  # guessed: three times that of a vocabulary of 256,000
    f"{CHECKPOINT_FOLDER}/{CONFIG_FILE}": 1_000_000,  # guessed: a hundred times a real one
}
"""Files that are parsed as a whole; a larger one is refused unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder whose manifest was read and whose files were checked."""

    folder: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The ONNX graph."""
        return self.folder / MODEL_FILE

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's JSON."""
        return self.folder / TOKENIZER_FILE

    @property
    def memory_path(self) -> Path | None:
        """How much the memory of the workspace counts, or None if the bundle doesn't say."""
        return self.folder / MEMORY_FILE if MEMORY_FILE in self.manifest.files else None

    @property
    def checkpoint_path(self) -> Path | None:
        """Folder of the weights for the PyTorch fallback, or None if the bundle has none."""
        folder = self.folder / CHECKPOINT_FOLDER
        return folder if f"{CHECKPOINT_FOLDER}/{WEIGHTS_FILE}" in self.manifest.files else None


def locate_bundle(model: str) -> Path:
    """Return the folder that a model's name stands for.

    Args:
        model: empty for the embedded model; a path; or the name of a folder in the user's data
        directory.

    Raises:
        BundleError: there is no such folder.
    """
    if not model:
        return EMBEDDED_FOLDER
    try:
        candidates = [Path(model).expanduser(), models_folder() / model]
        for folder in candidates:
            if folder.is_dir():
                return folder
    except (OSError, RuntimeError) as exc:  # RuntimeError: `~` of an unknown user
        raise BundleError(f"the model {model!r} can't be looked up ({exc})") from exc
    raise BundleError(
        f"no bundle at {candidates[0]} nor at {candidates[1]}; "
        f"make one with `python -m export CHECKPOINT --output {candidates[1]}`"
    )


def named_bundles() -> list[str]:
    """Return the names of the bundles in the user's data directory; none if it can't be read."""
    try:
        folders = list(models_folder().iterdir())
        return sorted(folder.name for folder in folders if (folder / MANIFEST_FILE).is_file())
    except OSError:
        return []


def models_folder() -> Path:
    """Where bundles with a name live on this system."""
    return platformdirs.user_data_path("foretype", appauthor=False) / "models"


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file that its manifest lists.

    Raises:
        BundleError: the folder is no bundle, is of a newer format, or a file is missing, altered
        or a link;
            the message names the file, what was expected and what to do.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = parse_manifest(_read_manifest_text(path), path)
        for name in (MODEL_FILE, TOKENIZER_FILE):
            if name not in manifest.files:
                raise BundleError(f"{path} does not list {name}; export the model again")
        for name, record in manifest.files.items():
            _check_file(folder, name, record)
    except OSError as exc:
        raise BundleError(f"{folder} can't be read ({exc}); check its permissions") from exc
    return Bundle(folder=folder, manifest=manifest)


def record_file(path: Path) -> FileRecord:
    """Return size and hash of a file, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, n_bytes=path.stat().st_size)


def _read_manifest_text(path: Path) -> str:
    if not path.is_file() or path.is_symlink():
        raise BundleError(
            f"{path} is missing, so {path.parent} is no bundle; "
            "make one with `python -m export CHECKPOINT`"
        )
    if path.stat().st_size > MANIFEST_BYTES:
        raise BundleError(f"{path} is larger than {MANIFEST_BYTES} bytes; export the model again")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise BundleError(f"{path} can't be read ({exc}); export the model again") from exc


def _check_file(folder: Path, name: str, record: FileRecord) -> None:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path} is missing or a link, expected a file; export the model again")
    if path.resolve() != folder.resolve() / name:
        raise BundleError(f"{path} lies outside the bundle's folder; export the model again")
    if (n_bytes := path.stat().st_size) != record.n_bytes:
        raise BundleError(
            f"{path} has {n_bytes} bytes, the manifest says {record.n_bytes}; "
            "it was truncated or altered: export the model again"
        )
    if n_bytes > MAX_BYTES.get(name, n_bytes):
        raise BundleError(
            f"{path} has {n_bytes} bytes, at most {MAX_BYTES[name]} are read; "
            "export a smaller model"
        )
    found = record_file(path)
    if found.sha256 != record.sha256:
        raise BundleError(
            f"{path} has SHA-256 {found.sha256[:12]}..., "
            f"the manifest says {record.sha256[:12]}...; "
            "it was altered: export the model again"
        )
