"""The list of sources that a corpus is made of, read from TOML.

Knows where packages lie on this machine, through a few named places; reads none of their files.
"""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from server.errors import nearest_name
from training.config import build, read_toml
from training.errors import ConfigError

Split = Literal["train", "dev", "test"]
SourceKind = Literal["distributions", "stdlib", "folder"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is taken at most, in bytes of text, and at what rate tests are kept."""

    file_bytes: int = 300_000
    package_bytes: int = 4_000_000
    tests_share: float = 0.5
    # Chance that a file begins with a comment that names its path, as an editor's prompt may.
    path_comment_share: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Packages at one place, all in one split.

    `packages` are distribution names, `name==version` where the version matters; empty means all.
    `name`, `version` and `licence` are for folders, which have no metadata to tell them.
    """

    kind: SourceKind
    path: str
    split: Split
    name: str = ""
    licence: str = ""
    version: str = ""
    packages: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = (".py", ".md", ".rst")
    package_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A corpus before it is read."""

    name: str
    seed: int
    limits: Limits
    sources: tuple[Source, ...]
    # Path patterns (fnmatch, on the path below the source) never taken, with the reason beside
    # them in the file.
    exclude: tuple[str, ...] = ()
    places: dict[str, Path] = field(default_factory=dict)

    def locate(self, source: Source) -> Path:
        """Return the folder that a source names, its `{place}` filled in.

        Raises:
            ConfigError: the place is not known here.
        """
        try:
            return Path(source.path.format(**self.places)).expanduser()
        except KeyError as exc:
            place = str(exc.args[0])
            raise ConfigError(
                f"manifest {self.name}: {source.path} names a place that was not given: {place}"
                f"{nearest_name(place, self.places)} (give it with --place {place}=FOLDER)"
            ) from exc


def default_places() -> dict[str, Path]:
    """Return the places that every machine has: `stdlib`, `site`, `base_site`, `project`."""
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    return {
        "stdlib": Path(sysconfig.get_path("stdlib", vars=base)),
        "site": Path(sysconfig.get_path("purelib")),
        "base_site": Path(sysconfig.get_path("purelib", vars=base)),
        "project": Path(__file__).parents[1],
    }


def load_manifest(path: Path, places: dict[str, Path] | None = None) -> Manifest:
    """Read a manifest; `places` adds to or replaces the default ones.

    Raises:
        ConfigError: the file cannot be read or has an unknown key.
    """
    table = read_toml(path)
    known = {"name", "seed", "limits", "source", "exclude"}
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}{nearest_name(key, known)}")
    sources = tuple(build(Source, row, f"{path}: source") for row in table.get("source", []))
    if not sources:
        raise ConfigError(f"{path}: no [[source]]; a corpus needs at least one")
    return Manifest(
        name=table.get("name", path.stem),
        seed=table.get("seed", 1),
        limits=build(Limits, table.get("limits", {}), f"{path}: limits"),
        sources=sources,
        exclude=tuple(table.get("exclude", [])),
        places=default_places() | (places or {}),
    )
