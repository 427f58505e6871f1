"""The names of texts, so that one, or those of a folder, are found without looking at all.

Pure; does not know what the texts say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

_FOLDERS_FILES = ("__init__", "index")
"""What stands for its folder, in Python and in JavaScript."""
_NONE: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class Names:
    """The paths of several texts, by number."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Take paths in, each once, in the order of the texts."""
        self._paths = tuple(paths)
        self._numbers = {path: i for i, path in enumerate(paths)}
        folders: dict[str, list[int]] = {}
        for i, path in enumerate(paths):
            folders.setdefault(folder_of(path), []).append(i)
        self._folders = {folder: np.array(inside, np.int64) for folder, inside in folders.items()}
        self._modules: dict[str, list[tuple[str, int]]] = {}
        for i, path in enumerate(paths):
            module = module_of(path)
            self._modules.setdefault(module.rpartition("/")[2], []).append((module, i))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> str:
        return self._paths[number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def numbers(self, paths: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of those paths that there are."""
        return np.array([self._numbers[path] for path in paths if path in self._numbers], np.int64)

    def inside(self, folder: str) -> npt.NDArray[np.int64]:
        """Return the numbers of a folder's texts, without those of folders in it."""
        return self._folders.get(folder, _NONE)

    def of_modules(self, endings: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of the texts whose module ends with one of some paths.

        Args:
            endings: whole names, such as `package/module`.
        """
        return np.array(
            [
                number
                for ending in endings
                for module, number in self._modules.get(ending.rpartition("/")[2], ())
                if module == ending or module.endswith("/" + ending)
            ],
            np.int64,
        )


def module_of(path: str) -> str:
    """Return what a file is imported as: its path without suffix, or its folder if it stands for
    that.
    """
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0] or name
    if folder and stem in _FOLDERS_FILES:
        return folder
    return f"{folder}/{stem}" if folder else stem


def folder_of(path: str) -> str:
    """Return the path of the folder that a text lies in."""
    return path.rpartition("/")[0]
