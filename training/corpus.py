"""From the files of a manifest to clean texts in three splits, and a record of every decision.

    corpus/train.jsonl dev.jsonl test.jsonl   {"package", "path", "text"} per line
    corpus/files.jsonl                        every file taken: package, version, licence, sha256
    corpus/left_out.jsonl                     every file or package not taken, and why
    corpus/summary.json                       totals, and the SHA-256 of the splits

The same manifest over the same packages gives the same bytes. Knows nothing of tokens.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from training.dedup import NearDuplicates, signature
from training.errors import CorpusError
from training.filters import drop_licence_header, normalize, reason_to_leave_out
from training.licences import has_copyleft_header
from training.manifest import SPLITS, Manifest
from training.scrubbing import scrub
from training.sources import Package, SourceFile, find_packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file that passed the filters: cleaned text, hash of the original, MinHash signature."""

    file: SourceFile
    text: str
    sha256: str
    n_scrubbed: int
    digest: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file, or a whole package, that is not in the corpus."""

    key: str
    reason: str


def build_corpus(manifest: Manifest, folder: Path, n_processes: int = 1) -> dict[str, object]:
    """Read every source, write the splits and the records, return the summary.

    Raises:
        CorpusError: a source is missing, or nothing is left to train on.
    """
    left_out: list[LeftOut] = []
    candidates = list(_candidates(manifest, left_out))
    texts = list(_clean(candidates, manifest.limits.file_bytes, left_out, n_processes))
    # Held-out texts first: what resembles them is then dropped from the training side.
    texts.sort(key=lambda t: (SPLITS.index(t.file.package.split) * -1, t.file.key))
    unique = list(_drop_duplicates(texts, left_out))
    chosen = _cap(unique, manifest, left_out)
    if not any(t.file.package.split == "train" for t in chosen):
        raise CorpusError(
            f"manifest {manifest.name}: no text is left to train on; "
            f"{len(left_out)} files were left out ({_most_common(left_out)})"
        )
    return _write(manifest, chosen, left_out, folder)


def _candidates(manifest: Manifest, left_out: list[LeftOut]) -> Iterator[SourceFile]:
    for package, files in find_packages(manifest):
        if package.licence.verdict != "permissive":
            reason = f"licence {package.licence.verdict}: {package.licence.name}"
            left_out.append(LeftOut(key=package.name, reason=reason))
            continue
        rng = random.Random(f"{manifest.seed}/{package.name}/tests")
        for file in files:
            if file.is_test and rng.random() >= manifest.limits.tests_share:
                left_out.append(LeftOut(key=file.key, reason="test, thinned out"))
            else:
                yield file


def _clean(
    files: list[SourceFile], file_bytes: int, left_out: list[LeftOut], n_processes: int
) -> Iterator[Text]:
    jobs = [(file, file_bytes) for file in files]
    if n_processes > 1:
        with ProcessPoolExecutor(n_processes) as pool:
            results: Iterable[Text | LeftOut] = pool.map(_clean_one, jobs, chunksize=64)
            yield from _kept(track(results, "reading", total=len(jobs)), left_out)
    else:
        yield from _kept(track(map(_clean_one, jobs), "reading", total=len(jobs)), left_out)


def _kept(results: Iterable[Text | LeftOut], left_out: list[LeftOut]) -> Iterator[Text]:
    for result in results:
        if isinstance(result, LeftOut):
            left_out.append(result)
        else:
            yield result


def _clean_one(job: tuple[SourceFile, int]) -> Text | LeftOut:
    file, file_bytes = job
    if file.location.stat().st_size > file_bytes:
        return LeftOut(key=file.key, reason="too large")
    data = file.location.read_bytes()
    text = normalize(data)
    if text is None:
        return LeftOut(key=file.key, reason="no UTF-8")
    if has_copyleft_header(text):
        return LeftOut(key=file.key, reason="its header names a copyleft licence")
    text = drop_licence_header(text)
    if reason := reason_to_leave_out(text, is_python=file.is_python):
        return LeftOut(key=file.key, reason=reason)
    text, n_scrubbed = scrub(text)
    return Text(
        file=file,
        text=text,
        sha256=hashlib.sha256(data).hexdigest(),
        n_scrubbed=n_scrubbed,
        digest=signature(text),
    )


def _drop_duplicates(texts: list[Text], left_out: list[LeftOut]) -> Iterator[Text]:
    exact: dict[str, str] = {}
    near = NearDuplicates()
    for text in track(texts, "duplicates"):
        key = text.file.key
        same = exact.setdefault(hashlib.sha256(text.text.encode()).hexdigest(), key)
        if same != key:
            left_out.append(LeftOut(key=key, reason=f"same as {same}"))
        elif (close := near.match(text.digest)) is not None:
            left_out.append(LeftOut(key=key, reason=f"close to {close}"))
        else:
            near.add(key, text.digest)
            yield text


def _cap(texts: list[Text], manifest: Manifest, left_out: list[LeftOut]) -> list[Text]:
    by_package: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        by_package[text.file.package.name].append(text)
    chosen = []
    for name in sorted(by_package):
        own = by_package[name]
        random.Random(f"{manifest.seed}/{name}/cap").shuffle(own)
        room = own[0].file.package.limit_bytes
        for text in own:
            room -= len(text.text.encode())
            if room < 0:
                left_out.append(LeftOut(key=text.file.key, reason="the package has its share"))
            else:
                chosen.append(text)
    random.Random(f"{manifest.seed}/order").shuffle(chosen)
    return chosen


def _write(
    manifest: Manifest, texts: list[Text], left_out: list[LeftOut], folder: Path
) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{manifest.seed}/paths")
    for split in SPLITS:
        rows = []
        for text in texts:
            if text.file.package.split == split:
                body = text.text
                # An editor may put the path in front of the prompt; the model should know it.
                if (
                    split == "train"
                    and text.file.is_python
                    and rng.random() < manifest.limits.path_comment_share
                ):
                    body = f"# {text.file.path}\n{body}"
                rows.append(
                    {"package": text.file.package.name, "path": text.file.path, "text": body}
                )
        _write_rows(folder / f"{split}.jsonl", rows)
    _write_rows(folder / "files.jsonl", sorted(map(_record, texts), key=lambda r: r["path"]))
    _write_rows(
        folder / "left_out.jsonl",
        sorted(({"path": o.key, "reason": o.reason} for o in left_out), key=lambda r: r["path"]),
    )
    summary = _summary(manifest, texts, left_out, folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _record(text: Text) -> dict[str, str]:
    package = text.file.package
    return {
        "path": text.file.key,
        "version": package.version,
        "licence": package.licence.name,
        "split": package.split,
        "sha256": text.sha256,
        "scrubbed": str(text.n_scrubbed),
    }


def _write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _summary(
    manifest: Manifest, texts: list[Text], left_out: list[LeftOut], folder: Path
) -> dict[str, object]:
    packages: dict[str, Package] = {t.file.package.name: t.file.package for t in texts}
    sizes: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for text in texts:
        sizes[text.file.package.name] += len(text.text.encode())
        splits[text.file.package.split] += len(text.text.encode())
    return {
        "manifest": manifest.name,
        "seed": manifest.seed,
        "files": len(texts),
        "bytes": dict(sorted(splits.items())),
        "sha256": {split: sha256_of(folder / f"{split}.jsonl") for split in SPLITS},
        "scrubbed": sum(t.n_scrubbed for t in texts),
        "left_out": dict(Counter(_kind(o.reason) for o in left_out).most_common()),
        "packages": [
            {
                "name": name,
                "version": packages[name].version,
                "licence": packages[name].licence.name,
                "split": packages[name].split,
                "bytes": sizes[name],
            }
            for name in sorted(packages)
        ],
    }


def _kind(reason: str) -> str:
    return reason.split(" to ")[0].split(" as ")[0].split(":")[0]


def _most_common(left_out: list[LeftOut]) -> str:
    kinds = Counter(_kind(o.reason) for o in left_out).most_common(3)
    return ", ".join(f"{n} {kind}" for kind, n in kinds) or "none were found"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_split(folder: Path, split: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a split.

    Raises:
        CorpusError: the split was not written.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        raise CorpusError(f"{path} is not there; run the corpus command first")
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
