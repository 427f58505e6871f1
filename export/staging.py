"""Makes a folder appear all at once or not at all.

Knows folders only, not what is in them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.bundle import MANIFEST_FILE
from server.errors import OptionsError


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block ends well.

    A block that raises, Ctrl-C included, leaves what was there before. A killed process leaves a
    hidden folder `.NAME.partial-*` that no program takes for a bundle.

    Raises:
        OptionsError: `target` is a file, or a folder that holds something other than a bundle.
    """
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)
        _swap(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raise OptionsError if `target` holds anything but a bundle: it would be lost."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OptionsError(f"{target} is no folder; choose another --output")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST_FILE).is_file():
        raise OptionsError(f"{target} exists and is no bundle; choose another --output")


def _swap(staging: Path, target: Path) -> None:
    """A folder with files can't be replaced in one step: the old one steps aside first."""
    if not target.exists():
        staging.replace(target)
        return
    aside = staging.with_name(staging.name.replace(".partial-", ".old-"))
    target.replace(aside)
    try:
        staging.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
