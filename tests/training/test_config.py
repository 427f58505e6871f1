"""Configs: every shipped one loads, and what makes no sense is said with the key's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import CONFIG_FOLDER, load_config
from training.errors import ConfigError
from training.manifest import load_manifest

EXPERIMENTS = sorted(p for p in CONFIG_FOLDER.glob("*.toml") if not p.stem.startswith("corpus-"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_shipped_config_and_its_manifest_load(path: Path) -> None:
    config = load_config(path)
    manifest = load_manifest(config.manifest_path())
    assert {s.split for s in manifest.sources} == {"train", "dev", "test"}


def test_no_held_out_package_is_named_for_training() -> None:
    for path in CONFIG_FOLDER.glob("corpus-*.toml"):
        sides: dict[bool, set[str]] = {True: set(), False: set()}
        for source in load_manifest(path).sources:
            names = {p.split("==")[0] for p in source.packages} or {source.name}
            sides[source.split == "train"] |= names
        assert not sides[True] & sides[False]


BAD = [
    ('[corpus]\nmanifest = "m.toml"\n[modle]\n', "did you mean 'model'"),
    ('[corpus]\nmanifest = "m.toml"\n[model]\nn_layers = 2\n', "did you mean 'n_layer'"),
    ('[corpus]\nmanifest = "m.toml"\n[model]\nn_layer = "2"\n', "n_layer is '2'"),
    ('[corpus]\nmanifest = "m.toml"\n[schedule]\nkind = "cosin"\n', "it may be constant"),
    ('[corpus]\nmanifest = "m.toml"\n[model]\nn_embd = 30\n', "no multiple of n_head"),
    ('[corpus]\nmanifest = "m.toml"\n[fim]\nrate = 2\n', "not within 0 and 1"),
    ('name = "x"\n', r"\[corpus\] is missing"),
    ("= 3\n", "Invalid"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_nonsense_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
