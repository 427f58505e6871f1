"""From a manifest to the files that it names, each with package, version, licence and split.

Reads metadata and lists files; whether a file's text is any good is decided elsewhere.
"""

from __future__ import annotations

import fnmatch
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from training.errors import CorpusError
from training.licences import Licence, judge, licence_of_distribution
from training.manifest import Manifest, Source, Split

_TEST_PART = re.compile(r"(^|/)(tests?|testing)(/|$)|(^|/)test_[^/]*$|_test\.py$|conftest\.py$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of the manifest, found on this machine."""

    name: str
    version: str
    licence: Licence
    split: Split
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file before it is read; `path` is relative to the package's root, with forward slashes."""

    package: Package
    path: str
    location: Path

    @property
    def key(self) -> str:
        """Return the name that records use."""
        return f"{self.package.name}/{self.path}"

    @property
    def is_python(self) -> bool:
        """Tell whether the file is Python source."""
        return self.location.suffix == ".py"

    @property
    def is_test(self) -> bool:
        """Tell whether the path looks like a test's."""
        return _TEST_PART.search(self.path) is not None


def find_packages(manifest: Manifest) -> Iterator[tuple[Package, list[SourceFile]]]:
    """Yield each package of the manifest with its files, in the manifest's order.

    A package that is named by several sources counts once, where it comes first; the training
    side never gets a package that the development or test side names.

    Raises:
        CorpusError: a source is missing, or a package is not there in the version asked for.
    """
    held_out = {
        canonical(package.split("==")[0])
        for source in manifest.sources
        if source.split != "train"
        for package in source.packages or (source.name,)
    }
    seen: set[str] = set()
    for source in manifest.sources:
        for package, files in _packages_of(manifest, source):
            key = canonical(package.name)
            if key in seen or (source.split == "train" and key in held_out):
                continue
            seen.add(key)
            yield package, files


def canonical(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages_of(manifest: Manifest, source: Source) -> Iterator[tuple[Package, list[SourceFile]]]:
    root = manifest.locate(source)
    if not root.is_dir():
        raise CorpusError(f"manifest {manifest.name}: {source.path} is {root}, which is no folder")
    limit = source.package_bytes or manifest.limits.package_bytes
    if source.kind == "distributions":
        for distribution in _named(manifest, source, root):
            package = Package(
                name=canonical(distribution.metadata["Name"]),
                version=distribution.version,
                licence=licence_of_distribution(distribution),
                split=source.split,
                limit_bytes=limit,
            )
            paths = sorted(str(path) for path in distribution.files or [])
            yield package, _files(manifest, source, package, root, paths)
        return
    is_stdlib = source.kind == "stdlib"
    licence = source.licence or ("PSF-2.0" if is_stdlib else "")
    package = Package(
        name=source.name or ("cpython" if is_stdlib else root.name),
        version=platform.python_version() if is_stdlib else source.version,
        licence=Licence(name=licence or "none stated", verdict=judge(licence)),
        split=source.split,
        limit_bytes=limit,
    )
    if is_stdlib and source.version and source.version != package.version:
        raise CorpusError(
            f"manifest {manifest.name} wants the standard library of {source.version}; "
            f"this is Python {package.version}"
        )
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*"))
    if is_stdlib:
        paths = [p for p in paths if not p.startswith(("site-packages/", "dist-packages/"))]
    yield package, _files(manifest, source, package, root, paths)


def _named(manifest: Manifest, source: Source, root: Path) -> list[Distribution]:
    found = {canonical(d.metadata["Name"]): d for d in distributions(path=[str(root)])}
    if not source.packages:
        return [found[name] for name in sorted(found)]
    chosen = []
    for wanted in source.packages:
        name, _, version = wanted.partition("==")
        distribution = found.get(canonical(name))
        if distribution is None or (version and distribution.version != version):
            have = distribution.version if distribution else "nothing of that name"
            raise CorpusError(
                f"manifest {manifest.name} wants {wanted} in {root}, where there is {have}; "
                f"install it there with pip install --no-deps --target {root} {wanted}"
            )
        chosen.append(distribution)
    return chosen


def _files(
    manifest: Manifest, source: Source, package: Package, root: Path, paths: list[str]
) -> list[SourceFile]:
    files = []
    for path in paths:
        if not path.endswith(source.suffixes) or path.startswith("..") or ".dist-info/" in path:
            continue
        if any(fnmatch.fnmatch(path, pattern) for pattern in manifest.exclude):
            continue
        location = root / path
        if location.is_file():
            files.append(SourceFile(package=package, path=path, location=location))
    return files
