"""A folder appears whole or not at all."""

from pathlib import Path

import pytest

from export.staging import staged_folder
from server.bundle import MANIFEST_FILE
from server.errors import OptionsError


def write(folder: Path, text: str) -> None:
    (folder / MANIFEST_FILE).write_text(text)
    (folder / "checkpoint").mkdir()


def write_half(target: Path, exception: BaseException) -> None:
    with staged_folder(target) as staging:
        write(staging, "half")
        raise exception


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "deep/er/bundle"

    with staged_folder(target) as staging:
        write(staging, "new")
        assert not target.exists()

    assert (target / MANIFEST_FILE).read_text() == "new"
    assert names(target.parent) == ["bundle"]


def test_old_bundle_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    write(target, "old")
    (target / "left over").touch()

    with staged_folder(target) as staging:
        write(staging, "new")

    assert names(target) == ["checkpoint", MANIFEST_FILE]
    assert (target / MANIFEST_FILE).read_text() == "new"
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("exception", [OSError("disk full"), KeyboardInterrupt()])
def test_broken_off_block_leaves_nothing(tmp_path: Path, exception: BaseException) -> None:
    with pytest.raises(type(exception)):
        write_half(tmp_path / "bundle", exception)

    assert names(tmp_path) == []


def test_broken_off_block_leaves_the_old_bundle(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    write(target, "old")

    with pytest.raises(OSError, match="full"):
        write_half(target, OSError("disk full"))

    assert (target / MANIFEST_FILE).read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_failed_swap_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    write(target, "old")
    replace = Path.replace

    def fail_for_staging(self: Path, other: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("busy")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", fail_for_staging)

    with pytest.raises(OSError, match="busy"), staged_folder(target) as staging:
        write(staging, "new")

    assert (target / MANIFEST_FILE).read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(OptionsError, match="is no bundle; choose another"), staged_folder(tmp_path):
        pytest.fail("the block must not run")

    assert names(tmp_path) == ["thesis.tex"]


def test_file_or_link_as_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    for name in ("file", "link"):
        with pytest.raises(OptionsError, match="is no folder"), staged_folder(tmp_path / name):
            pytest.fail("the block must not run")


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()

    with staged_folder(target) as staging:
        write(staging, "new")

    assert (target / MANIFEST_FILE).read_text() == "new"
